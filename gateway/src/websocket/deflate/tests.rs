use proptest::prelude::*;

use super::*;

#[track_caller]
fn check_offer(offer: &str, expected: bool) {
    assert_eq!(is_offered(offer), expected, "{offer}");
}

#[test]
fn an_offer_is_accepted_if_everything_it_asks_for_can_be_done() {
    // What browsers and the official client send.
    check_offer("permessage-deflate; client_max_window_bits", true);
    check_offer("permessage-deflate", true);
    check_offer(
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        true,
    );
    check_offer("permessage-deflate;client_max_window_bits=\"10\"", true);
    // The first that can be accepted counts.
    check_offer(
        "x-other, permessage-deflate; server_max_window_bits=10, permessage-deflate",
        true,
    );
    for refused in [
        "",
        "x-webkit-deflate-frame",
        "permessage-deflate; server_max_window_bits=10",
        "permessage-deflate; server_max_window_bits=15",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=010",
        "permessage-deflate; client_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; unknown",
    ] {
        check_offer(refused, false);
    }
}

/// The examples of RFC 7692, section 7.2.3.
#[test]
fn the_forms_of_the_standard_are_inflated() {
    for compressed in [
        &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
        // A block without compression.
        &[
            0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
        ],
        // The last block, and one behind it.
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
        // Two blocks.
        &[
            0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
        ],
    ] {
        assert_eq!(
            inflate(compressed, 5),
            Ok(b"Hello".to_vec()),
            "{compressed:x?}"
        );
    }
}

#[test]
fn no_more_is_inflated_than_may_be() {
    let bomb = compress(&vec![b'x'; 10_000_000]).unwrap();
    assert!(bomb.len() < 20_000);
    assert_eq!(inflate(&bomb, 16_384), Err(InflateError::TooLong));
    assert_eq!(
        inflate(&bomb, 10_000_000).map(|message| message.len()),
        Ok(10_000_000)
    );
}

#[test]
fn what_does_not_get_shorter_is_not_compressed() {
    let random: Vec<u8> = (0..200).map(|_| fastrand::u8(..)).collect();
    assert_eq!(compress(&random), None);
}

proptest! {
    #[test]
    fn a_compressed_message_is_the_same_afterwards(text in "[a-e]{0,3000}") {
        if let Some(compressed) = compress(text.as_bytes()) {
            prop_assert_eq!(inflate(&compressed, text.len()), Ok(text.into_bytes()));
        }
    }

    #[test]
    fn any_bytes_may_be_inflated(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(message) = inflate(&bytes, 500) {
            prop_assert!(message.len() <= 500);
        }
    }
}
