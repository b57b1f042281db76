use super::*;
use crate::test_setup;

#[test]
fn the_limit_that_applies_is_the_first_number() {
    let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                  Max processes             63432                63432                processes \n\
                  Max open files            1024                 524288               files     \n";
    assert_eq!(open_files(limits), Some(1024));
    assert_eq!(
        open_files("Max open files   unlimited   unlimited   files"),
        None
    );
    assert_eq!(open_files(""), None);
    let own = std::fs::read_to_string("/proc/self/limits").expect("Linux");
    assert!(own.contains("Max open files"), "{own}");
}

#[test]
fn every_connection_needs_a_descriptor() {
    let config = |flags: &[&str]| test_setup::config("127.0.0.1:1", flags);
    let main = needed(&config(&["--max-connections=100"]));
    assert_eq!(main, 100 + RESERVE + OWN);
    let both = needed(&config(&["--max-connections=100", "--ops-port=3004"]));
    assert!(both >= main + RESERVE);
}
