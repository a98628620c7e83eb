//! How messages are read from the wire: as prost does, except that a message that cannot be read is
//! the sender's fault, and the answer says which field it was.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec as TonicCodec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstEncoder};

use crate::status::Problem;

/// Reads and writes messages.
#[derive(Debug, Clone)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> TonicCodec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = Reader<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        Reader(PhantomData)
    }
}

/// Reads messages.
#[derive(Debug, Clone)]
pub struct Reader<U>(PhantomData<U>);

impl<U: Message + Default> Decoder for Reader<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        U::decode(buf).map(Some).map_err(|error| unreadable(&error.to_string()).into())
    }
}

/// Names the field in prost's words, which are
/// `failed to decode Protobuf message: JobSpec.image: SubmitJobRequest.spec: what is wrong`.
fn unreadable(error: &str) -> Problem {
    let mut field = Vec::new();
    let mut rest = error.split_once("message: ").map_or(error, |(_, rest)| rest);
    while let Some((place, more)) = rest.split_once(": ") {
        match place.split_once('.') {
            Some((_, name)) if !place.contains(' ') => field.push(name),
            Some(_) | None => break,
        }
        rest = more;
    }
    // The innermost field comes first.
    field.reverse();
    let what = format!("cannot be read ({rest}); send text as UTF-8, encoded after the proto files");
    let field = if field.is_empty() { "message".to_owned() } else { field.join(".") };
    Problem::field(field, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;

    #[test]
    fn a_field_that_cannot_be_read_is_named() {
        // SubmitJobRequest { spec: JobSpec { image: <not UTF-8> } }
        let bytes: &[u8] = &[0x0a, 0x04, 0x0a, 0x02, 0xff, 0xfe];
        let error = v1::SubmitJobRequest::decode(bytes).expect_err("it is not UTF-8");
        let problem = unreadable(&error.to_string());
        let Problem::Invalid(violations) = problem else { panic!("it is the sender's fault") };
        assert_eq!(violations[0].field, "spec.image", "{error}");
        assert!(violations[0].description.contains("UTF-8"), "{}", violations[0].description);
    }
}
