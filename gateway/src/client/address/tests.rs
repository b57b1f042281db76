use super::*;

fn address(text: &str) -> ClientAddress {
    ClientAddress::new(text.parse().unwrap())
}

#[test]
fn addresses_of_one_ipv6_network_are_one() {
    assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:2"));
    assert_ne!(address("2001:db8:0:1::1"), address("2001:db8:0:2::1"));
}

#[test]
fn ipv4_addresses_are_told_apart_however_they_are_written() {
    assert_ne!(address("10.0.0.1"), address("10.0.0.2"));
    assert_eq!(address("::ffff:10.0.0.1"), address("10.0.0.1"));
}
