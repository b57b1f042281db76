//! Where the broker is, and what may be subscribed to: values of the command line.

use std::fmt;
use std::str::FromStr;

/// `mqtt://HOST[:PORT]` or `mqtts://HOST[:PORT]`. Holds no user and no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerUrl {
    /// Name or address; an IPv6 address in brackets.
    pub host: String,
    pub port: u16,
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
            return Err("user and password belong into --mqtt-username and --mqtt-password".into());
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
            _ => Err("the URL names no host".to_owned()),
        }
    }
}

/// What is wrong with a topic filter, to be read behind its name.
pub(super) fn filter_problem(filter: &str) -> Option<&'static str> {
    if filter.is_empty() {
        return Some("is empty");
    }
    if filter.len() > 65_000 || filter.contains('\0') {
        return Some("is no topic: too long or with a NUL");
    }
    if filter.starts_with("$share/") {
        return Some("names a share group: use --mqtt-share-group");
    }
    let levels = filter.split('/').count();
    for (place, level) in filter.split('/').enumerate() {
        if level.len() > 1 && level.contains(['+', '#']) {
            return Some("has a wildcard beside other characters of a level");
        }
        if level == "#" && place + 1 != levels {
            return Some("has a # before its end");
        }
    }
    None
}
