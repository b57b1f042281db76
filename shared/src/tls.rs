//! TLS: the certificates and keys that are given as files, and connections to servers over it.
//!
//! Without a file of authorities, those of the system are trusted; the variable `SSL_CERT_FILE` names another file of them.

mod client;
mod client_stream;
mod fault;
mod file_stamp;
mod maybe_tls_stream;
mod pem;
mod probe;
mod validity;

pub use self::client::{ClientTls, TlsFiles, TlsSettings};
pub use self::client_stream::{ClientStream, TlsError};
pub use self::fault::TlsFault;
pub use self::file_stamp::FileStamps;
pub use self::maybe_tls_stream::MaybeTlsStream;
pub use self::pem::{read_certificates, read_key};
pub use self::probe::{refusal_after_handshake, speaks_tls};
pub use self::validity::time_problem;
