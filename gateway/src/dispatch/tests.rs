use std::io::Write as _;

use super::*;
use crate::hosts::NamedHost;
use crate::test_setup;

#[test]
fn the_public_address_may_be_named() {
    let mut key = tempfile::NamedTempFile::new().expect("a file");
    key.write_all(&[b'k'; 32]).expect("written");
    let key = format!("--session-key-file={}", key.path().display());
    let flags = [
        "--oidc-issuer=https://login.example.com",
        "--oidc-client-id=dashboard",
        "--public-url=https://Gas.Example.com",
        &key,
    ];
    for (flags, is_allowed) in [(&flags[..], true), (&[], false)] {
        let (_, hosts) = allowed(&test_setup::config("127.0.0.1:1", flags)).expect("hosts");
        let named = NamedHost::parse("gas.example.com:443").expect("a host");
        assert_eq!(hosts.allow(&named), is_allowed, "{flags:?}");
    }
}
