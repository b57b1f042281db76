use super::*;
use crate::client_address::ForwardedHeader;
use crate::test_setup;

#[test]
fn each_address_that_is_no_proxy_has_so_many_connections() {
    let flags = ["--max-tcp-connections-per-address=2"];
    let config = test_setup::config("127.0.0.1:6379", &flags);
    let proxies = TrustedProxies::parse(&["10.0.0.0/8".to_owned()], ForwardedHeader::Any).unwrap();
    let limit = AddressLimit {
        admission: test_setup::admission(&config),
        proxies: Arc::new(proxies),
    };
    let take = |peer: &str| limit.take(peer.parse().unwrap());
    let first = take("192.0.2.1").unwrap();
    let _second = take("192.0.2.1").unwrap();
    assert!(take("192.0.2.1").is_none());
    // As many as it likes.
    let of_proxy: Vec<_> = (0..9).map(|_| take("10.1.2.3").unwrap()).collect();
    // Addresses of one network are one.
    let _network = ["2001:db8::1", "2001:db8::2"].map(|peer| take(peer).unwrap());
    assert!(take("2001:db8::3").is_none());
    drop((first, of_proxy));
    assert!(take("192.0.2.1").is_some());
}
