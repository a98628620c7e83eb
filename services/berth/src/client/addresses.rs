//! The addresses under which a client looks for schedulers.

use std::fmt;
use std::str::FromStr;

/// One or more gRPC addresses, `host:port,host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses(Vec<String>);

impl Addresses {
    /// Where a scheduler listens unless told otherwise.
    pub const DEFAULT: &str = "127.0.0.1:50051";

    /// Lists the addresses in the order given; there is at least one.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl FromStr for Addresses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // An empty variable is how a compose file leaves one unset.
        let text = if text.trim().is_empty() { Self::DEFAULT } else { text };
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let addresses = parts.map(address).collect::<Result<Vec<_>, _>>()?;
        if addresses.is_empty() {
            return Err(format!("no address is given: write HOST:PORT, for example {}", Self::DEFAULT));
        }
        Ok(Self(addresses))
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

fn address(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let Some((host, port)) = bare.rsplit_once(':') else {
        return Err(format!("{text:?} has no port: write {bare}:50051"));
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.contains(':') && !bracketed {
        return Err(format!("{text:?} is not HOST:PORT: write an IPv6 address as [::1]:50051"));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']' | '%');
    if host.is_empty() || !host.chars().all(plain) || !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return Err(format!("{text:?} is not HOST:PORT, for example {}", Addresses::DEFAULT));
    }
    Ok(bare.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_addresses_are_read_in_order() {
        let addresses: Addresses = "s1:50051, http://s2:50052/,[::1]:50053,".parse().expect("is valid");
        assert_eq!(addresses.as_slice(), ["s1:50051", "s2:50052", "[::1]:50053"]);
        assert_eq!(addresses.to_string(), "s1:50051,s2:50052,[::1]:50053");
    }

    #[test]
    fn an_empty_variable_means_the_default() {
        assert_eq!("".parse::<Addresses>().map(|a| a.to_string()).as_deref(), Ok(Addresses::DEFAULT));
    }

    #[test]
    fn a_wrong_address_says_what_to_write() {
        let refusal = |text: &str| text.parse::<Addresses>().expect_err("must be refused");
        assert_eq!(refusal("s1"), "\"s1\" has no port: write s1:50051");
        assert!(refusal("::1:50051").contains("[::1]:50051"));
        assert!(refusal(",").starts_with("no address"));
        for bad in ["s1:0", "s1:x", ":50051", "a b:1", "s1:99999", "https://s1:1"] {
            assert!(bad.parse::<Addresses>().is_err(), "{bad:?} must be refused");
        }
    }
}
