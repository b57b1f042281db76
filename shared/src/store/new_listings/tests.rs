use super::*;

fn mark(epoch: &str, number: u64) -> PartitionMark {
    let epoch = epoch.parse().unwrap();
    PartitionMark { epoch, number }
}

const EPOCH: &str = "73047088fdba";
const LATER: &str = "1d1b56f61d8f";

fn listing_of_a(number: u32) -> Vec<(String, f64)> {
    vec![("A".to_owned(), f64::from(number))]
}

#[test]
fn devices_that_were_listed_later_are_found() {
    let found = since(Some(mark(EPOCH, 4)), Some(mark(EPOCH, 5)), listing_of_a(5));
    assert_eq!(found.mark, Some(mark(EPOCH, 5)));
    assert_eq!(found.devices, Some(vec!["A".parse().unwrap()]));
}

#[test]
fn without_an_earlier_look_or_after_a_loss_of_data_it_is_not_known_what_was_listed() {
    for before in [None, Some(mark(LATER, 4)), Some(mark(EPOCH, 6))] {
        let found = since(before, Some(mark(EPOCH, 5)), listing_of_a(5));
        assert_eq!((found.mark, found.devices), (Some(mark(EPOCH, 5)), None));
    }
    assert_eq!(since(Some(mark(EPOCH, 4)), None, Vec::new()).devices, None);
}

#[test]
fn a_full_page_is_continued_behind_its_last_device() {
    let page = (1..=u32::try_from(PAGE).unwrap()).map(|n| (format!("D{n}"), f64::from(n)));
    let found = since(
        Some(mark(EPOCH, 0)),
        Some(mark(EPOCH, 9999)),
        page.collect(),
    );
    assert_eq!(found.mark, Some(mark(EPOCH, PAGE as u64)));
    assert_eq!(found.devices.map(|devices| devices.len()), Some(PAGE));
}
