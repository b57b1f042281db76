//! The address of the broker, as given on the command line.

use std::fmt;
use std::str::FromStr;

/// `mqtt://HOST[:PORT]` or `mqtts://HOST[:PORT]`, without user name and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerUrl {
    /// Host name or IP address; an IPv6 address is in brackets.
    pub host: String,
    /// Default: 1883, or 8883 with TLS.
    pub port: u16,
    /// Whether the connection uses TLS (`mqtts`).
    pub tls: bool,
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl FromStr for BrokerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = url::Url::parse(text.trim())
            .map_err(|err| format!("expected mqtt://HOST:PORT or mqtts://HOST:PORT ({err})"))?;
        let (tls, default_port) = match url.scheme() {
            "mqtt" => (false, 1883),
            "mqtts" => (true, 8883),
            _ => return Err("the scheme must be mqtt:// or mqtts://".to_owned()),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                "give user name and password as --mqtt-username and --mqtt-password".to_owned(),
            );
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err("nothing may follow the host and port".to_owned());
        }
        match url.host_str() {
            Some(host) if !host.is_empty() => {
                let port = url.port().unwrap_or(default_port);
                Ok(Self {
                    host: host.to_owned(),
                    port,
                    tls,
                })
            }
            _ => Err("the URL has no host".to_owned()),
        }
    }
}
