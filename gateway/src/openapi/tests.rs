use std::collections::BTreeSet;

use serde_json::json;
use test_support::schemas::Schemas;

use super::DOCUMENT;
use crate::socket::refusal::Refusal;

/// The names in `event_names.rs`: those of clients, and ours.
fn event_names() -> [BTreeSet<String>; 2] {
    let (mut of_clients, mut ours) = (BTreeSet::new(), BTreeSet::new());
    let mut before = "";
    for line in include_str!("../event_names.rs").lines() {
        if line.starts_with("pub(crate) const") {
            let name = line.split('"').nth(1).expect("a name").to_owned();
            let is_of_client = before.starts_with("/// From a client:");
            let names = if is_of_client {
                &mut of_clients
            } else {
                &mut ours
            };
            names.insert(name);
        }
        before = line;
    }
    [of_clients, ours]
}

#[test]
fn the_document_has_every_event_and_no_other() {
    let schemas = Schemas::of(DOCUMENT);
    let described = |schema| BTreeSet::from_iter(schemas.names_in(schema));
    let [of_clients, ours] = event_names();
    assert!(
        of_clients.len() > 5 && ours.len() > 10,
        "{of_clients:?} {ours:?}"
    );
    assert_eq!(described("SocketEvents"), ours);
    assert_eq!(described("SocketCommands"), of_clients);
    assert_eq!(described("SocketAnswers"), of_clients);
}

#[test]
fn every_code_of_a_refusal_is_described() {
    let schemas = Schemas::of(DOCUMENT);
    for code in Refusal::CODES {
        let refused = json!({"ok": false, "error": {"code": code, "message": ""}});
        let found = schemas.check("Refused", &refused);
        assert!(found.is_ok(), "{code}: {found:?}");
    }
}
