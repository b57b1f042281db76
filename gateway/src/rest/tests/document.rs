use std::collections::BTreeSet;

use serde_json::json;
use test_support::schemas::Schemas;
use test_support::tokens::{Signed, TokenIssuer};

use super::*;
use crate::openapi::DOCUMENT;

fn document() -> Value {
    serde_json::from_str(DOCUMENT).expect("the document is JSON")
}

fn documented(document: &Value) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("operations").keys() {
            found.insert((method.to_uppercase(), path.clone()));
        }
    }
    found
}

#[test]
fn the_document_has_every_route_and_no_other() {
    let served: BTreeSet<_> = [
        routes(),
        probe_routes(Needs::Nothing),
        vec![retire_route(false, true), profile_route(false, true)],
    ]
    .into_iter()
    .flatten()
    .map(|(method, path, ..)| (method.to_string(), path.to_owned()))
    .collect();
    assert_eq!(documented(&document()), served);
}

#[tokio::test]
async fn every_documented_operation_is_served() {
    // Of a client that may do everything.
    let issuer = TokenIssuer::new().expect("keys");
    let flags = issuer.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let verbs = json!({"verbs": ["read", "ack", "operate", "admin"]});
    let token = issuer.token(Signed::Hs256, verbs).expect("a token");
    let ask = |line: &str| with(request(line), "authorization", &format!("Bearer {token}"));
    let ports = both_ports("127.255.255.253:1", &flags);
    for (method, path) in documented(&document()) {
        let router = match method.as_str() {
            "DELETE" | "PUT" => &ports.operators,
            _ => &ports.main,
        };
        let path = path
            .replace("{deviceId}", "OTSM-0114")
            .replace("{alertId}", "a1")
            .replace("{planId}", "hall-1");
        let response = send(router, ask(&format!("{method} {path}"))).await;
        let status = response.status().as_u16();
        // Nobody signs in here, and there is no such plan.
        let expected: &[u16] = if path.starts_with("/auth/") || path.ends_with("/image") {
            &[200, 404]
        } else {
            &[200, 503]
        };
        assert!(expected.contains(&status), "{method} {path}: {status}");
        let slashed = send(router, ask(&format!("{method} {path}/"))).await;
        assert_eq!(slashed.status().as_u16(), status, "{method} {path}/");
    }
}

#[tokio::test]
async fn with_a_port_for_operators_the_probes_are_there_alone() {
    let ports = both_ports("127.255.255.253:1", &["--ops-port=3004"]);
    for path in ["/livez", "/readyz", "/metrics"] {
        let line = format!("GET {path}");
        let on_main = error_of(send(&ports.main, request(&line)).await).await;
        assert_eq!(on_main, (404, "Not found".to_owned()), "{path}");
        let on_its_own = send(&ports.operators, request(&line)).await;
        assert_ne!(on_its_own.status(), 404, "{path}");
    }
    let found = error_of(send(&ports.operators, request("GET /api/devices")).await).await;
    assert_eq!(found, (404, "Not found".to_owned()));
    let refused = send(&ports.main, request("DELETE /api/devices/OTSM-0114")).await;
    assert_eq!(error_of(refused).await.0, 403);
}

#[test]
fn every_operation_declares_the_parameters_of_its_path() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for operation in item.as_object().expect("operations").values() {
            let named = |name: &str| format!("#/components/parameters/{name}");
            let declared = operation["parameters"].to_string();
            for name in ["deviceId", "alertId", "planId"] {
                let in_path = path.contains(&format!("{{{name}}}"));
                assert_eq!(declared.contains(&named(name)), in_path, "{path} {name}");
            }
            let id = operation["operationId"].as_str().expect("an id").to_owned();
            assert!(ids.insert(id), "{path}");
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn follow(value: &Value, document: &Value) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    let pointer = reference.strip_prefix('#').expect("a local reference");
                    assert!(document.pointer(pointer).is_some(), "{reference}");
                }
                fields.values().for_each(|field| follow(field, document));
            }
            Value::Array(items) => items.iter().for_each(|item| follow(item, document)),
            _ => {}
        }
    }
    follow(&document(), &document());
}

#[test]
fn the_front_end_can_parse_it() {
    assert!(!DOCUMENT.contains("px"));
}

/// Compares an answer with its schema: the same keys in the same order, optional ones aside, all the way down.
#[track_caller]
pub(super) fn check_schema(name: &str, value: &Value) {
    let found = Schemas::of(DOCUMENT).check(name, value);
    assert!(found.is_ok(), "{found:?}: {value}");
}
