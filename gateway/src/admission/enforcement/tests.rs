use shared::metrics::Meters;

use super::*;
use crate::client_address::ClientAddress;

/// Returns the settings of the limits that refuse.
fn refusing(tried_out: &[&str]) -> Vec<&'static str> {
    let metrics = Arc::new(LimitMetrics::new(&Meters::local("gateway").unwrap()));
    let tried_out: Vec<String> = tried_out
        .iter()
        .map(|setting| (*setting).to_owned())
        .collect();
    let enforcement = Enforcement::new(&tried_out, Arc::clone(&metrics));
    let caller = Caller::Address(ClientAddress::unknown());
    let all = Limit::ALL.into_iter().zip(Limit::SETTINGS);
    let refusing = all.filter(|(limit, _)| enforcement.refuses(*limit, Some(caller)));
    let refusing: Vec<_> = refusing.map(|(_, setting)| setting).collect();
    let count = |counts: &shared::metrics::LabelledCount| counts.get().map(|(_, n)| n).sum::<u64>();
    assert_eq!(count(&metrics.refused), refusing.len() as u64);
    assert_eq!(
        count(&metrics.dry_run),
        (Limit::ALL.len() - refusing.len()) as u64
    );
    refusing
}

#[test]
fn every_limit_can_be_tried_out() {
    assert_eq!(refusing(&[]), Limit::SETTINGS);
    assert!(refusing(&["all"]).is_empty());
    assert!(refusing(&["handshake-rate", "all"]).is_empty());
    for setting in Limit::SETTINGS {
        let others: Vec<_> = Limit::SETTINGS
            .into_iter()
            .filter(|other| *other != setting)
            .collect();
        assert_eq!(refusing(&[setting]), others);
    }
}
