//! As much of the protocol of Redis as is needed: commands as arrays of strings, and answers that are one value.

use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::net::TcpStream;

/// A connection.
pub struct Client {
    reader: BufReader<TcpStream>,
    writer: BufWriter<TcpStream>,
}

impl Client {
    /// Connects to HOST:PORT.
    ///
    /// # Errors
    /// Fails where nobody listens.
    pub fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let writer = BufWriter::with_capacity(1 << 18, stream.try_clone()?);
        Ok(Self { reader: BufReader::with_capacity(1 << 16, stream), writer })
    }

    /// Sends a command and waits for its answer.
    pub fn call(&mut self, args: &[&str]) -> String {
        self.send(args);
        self.receive()
    }

    /// Sends a command.
    pub fn send(&mut self, args: &[&str]) {
        write!(self.writer, "*{}\r\n", args.len()).expect("Redis reads");
        for arg in args {
            write!(self.writer, "${}\r\n{arg}\r\n", arg.len()).expect("Redis reads");
        }
        self.writer.flush().expect("Redis reads");
    }

    /// Waits for the answer to the oldest command that has none.
    pub fn receive(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("Redis answers");
        let line = line.trim_end();
        match line.split_at_checked(1).expect("a line") {
            ("$", length) => {
                let mut bytes = vec![0; length.parse::<usize>().expect("a length") + 2];
                self.reader.read_exact(&mut bytes).expect("Redis answers");
                String::from_utf8_lossy(&bytes[..bytes.len() - 2]).into_owned()
            }
            ("+" | ":", value) => value.to_owned(),
            (_, error) => panic!("Redis says: {error}"),
        }
    }
}
