//! Who may see and do what, at every door of a running gateway: long polling, WebSocket, the upgrade from one to the other, REST, a
//! new token, and recovery.

mod audit;
mod jwks;
mod limits;
mod renewal;
mod revocation;
mod token_command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::browser::{Browser, BrowserEvent, Transport};
use tests::eventually::eventually;
use tests::http::{self, Response};
use tests::stack::{Plan, Stack};
use tests::tokens::{Signed, TokenIssuer, seconds_from_now};

/// The device that most tokens of these tests name.
const OURS: &str = "OTSM-0114";
/// A device of somebody else.
const OTHER: &str = "OTSM-0200";
/// A device that never sent anything.
const UNKNOWN: &str = "OTSM-0299";

const TRANSPORTS: [Transport; 3] = [Transport::WebSocket, Transport::Polling, Transport::Upgrade];

/// What a client with a credential may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Allowed {
    /// It is not admitted, for this reason.
    Nothing(&'static str),
    /// It is admitted, and may do this with [`OURS`] and nothing with other devices.
    Some {
        read: bool,
        acknowledge: bool,
        retire: bool,
    },
}

/// What a credential is, the token, and what its holder may do.
type Credential = (&'static str, Option<String>, Allowed);

const NOTHING: Allowed = Allowed::Some {
    read: false,
    acknowledge: false,
    retire: false,
};
const READ: Allowed = Allowed::Some {
    read: true,
    acknowledge: false,
    retire: false,
};

#[rustfmt::skip]
fn credentials(issuer: &TokenIssuer, stranger: &TokenIssuer) -> Result<Vec<Credential>> {
    const INVALID: Allowed = Allowed::Nothing("invalid token");
    let ours = |mut changes: Value| {
        if changes.get("devices").is_none() {
            changes["devices"] = json!([OURS]);
        }
        issuer.token(Signed::Es256, changes)
    };
    // {"alg":"none","typ":"JWT"}
    let unsigned = |token: String| {
        let claims = token.split('.').nth(1).unwrap_or_default().to_owned();
        format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.")
    };
    let credential = |what, token, allowed| (what, Some(token), allowed);
    Ok(vec![
        ("anonymous", None, Allowed::Nothing("token required")),
        credential("expired", ours(json!({"exp": seconds_from_now(-3600)}))?, Allowed::Nothing("expired token")),
        credential("wrong audience", ours(json!({"aud": "other"}))?, INVALID),
        credential("wrong issuer", ours(json!({"iss": "https://other.test"}))?, INVALID),
        credential("alg none", unsigned(ours(json!({}))?), INVALID),
        credential("HS256 signed with a public key", issuer.confused_token(Signed::Es256, json!({}))?, INVALID),
        credential("keys of somebody else", stranger.token(Signed::Es256, json!({}))?, INVALID),
        credential("no token at all", "x".to_owned(), INVALID),
        credential("other device", ours(json!({"devices": [OTHER]}))?, NOTHING),
        credential("other site", ours(json!({"sites": ["Harbour"]}))?, NOTHING),
        credential("no verbs", ours(json!({"verbs": []}))?, NOTHING),
        credential("admin only", ours(json!({"verbs": ["admin"]}))?, NOTHING),
        credential("ack without read", ours(json!({"verbs": ["ack"]}))?, NOTHING),
        credential("reader", ours(json!({"verbs": ["read"]}))?, READ),
        credential("acknowledger", ours(json!({"verbs": ["read", "ack"]}))?, Allowed::Some { read: true, acknowledge: true, retire: false }),
        credential("operator", ours(json!({"verbs": ["read", "operate"]}))?, Allowed::Some { read: true, acknowledge: false, retire: true }),
    ])
}

/// Starts a stack that asks for tokens, with a reading and an open alarm of both devices.
async fn start(issuer: &TokenIssuer, flags: &str) -> Result<Stack> {
    start_plan(issuer, Plan::default(), flags).await
}

async fn start_plan(issuer: &TokenIssuer, plan: Plan, flags: &str) -> Result<Stack> {
    let flags = format!("{} {flags}", issuer.flags().join(" "));
    let plan = plan.operator_port().gateway_flags(&flags);
    let stack = plan.start().await?;
    let all = issuer.token(Signed::Hs256, json!({}))?;
    for device in [OURS, OTHER] {
        stack.device(device).send(300).await?;
        eventually("its alarm is there", async || {
            let path = format!("/devices/{device}/subtronics/alerts");
            let alerts = rest(&stack, "GET", &path, Some(&all)).await?.expect(200)?;
            ensure!(alerts[0]["state"] == "unacknowledged", "{alerts}");
            Ok(())
        })
        .await?;
    }
    Ok(stack)
}

async fn rest(stack: &Stack, method: &str, path: &str, token: Option<&str>) -> Result<Response> {
    let authorization = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<(&str, &str)> = authorization
        .iter()
        .map(|value| ("authorization", value.as_str()))
        .collect();
    let port = stack.gateways[0].port();
    http::send(port, method, path, &headers, b"").await
}

async fn open(stack: &Stack, transport: Transport, token: Option<&str>) -> Result<Browser> {
    open_at(stack.gateways[0].port(), transport, token).await
}

async fn open_at(port: u16, transport: Transport, token: Option<&str>) -> Result<Browser> {
    let mut options = json!({
        "transports": transport.names(),
        "reconnectionDelay": 50,
        "reconnectionDelayMax": 200,
        "randomizationFactor": 0,
    });
    if let Some(token) = token {
        options["auth"] = json!({"token": token});
    }
    Browser::open(port, options).await
}

fn joined(seen: &BrowserEvent) -> bool {
    seen.what == "connect" || seen.what == "connect_error"
}

async fn connected(stack: &Stack, transport: Transport, token: &str) -> Result<Browser> {
    let browser = open(stack, transport, Some(token)).await?;
    let answer = browser.wait_for("the answer to joining", joined).await?;
    ensure!(answer.what == "connect", "{answer:?}");
    Ok(browser)
}

fn is_forbidden(answer: &Value) -> bool {
    *answer == json!({"ok": false, "error": {"code": "forbidden", "message": "not allowed"}})
}

#[tokio::test]
async fn each_credential_opens_the_doors_that_it_should_over_socket_io() -> Result<()> {
    let (issuer, stranger) = (TokenIssuer::new()?, TokenIssuer::new()?);
    let stack = start(&issuer, "--allow-anonymous=none").await?;
    for (what, token, allowed) in credentials(&issuer, &stranger)? {
        for transport in TRANSPORTS {
            let cell = format!("{what} over {transport:?}");
            let browser = open(&stack, transport, token.as_deref()).await?;
            let answer = browser.wait_for(&cell, joined).await?;
            let read = match allowed {
                Allowed::Some { read, .. } => read,
                Allowed::Nothing(reason) => {
                    ensure!(answer.what == "connect_error", "{cell}: {answer:?}");
                    ensure!(answer.name == reason, "{cell}: {answer:?}");
                    continue;
                }
            };
            ensure!(answer.what == "connect", "{cell}: {answer:?}");
            let answer = browser.subscribe(OURS).await?;
            ensure!(answer["ok"] == read, "{cell}: {answer}");
            let since = browser
                .subscribe_since(OURS, &json!("73047088fdba"), 1)
                .await?;
            ensure!(since["ok"] == read, "{cell}: {since}");
            for refused in [&answer, &since] {
                ensure!(read || is_forbidden(refused), "{cell}: {refused}");
            }
            // The token for another device may read that one.
            if what != "other device" {
                for device in [OTHER, UNKNOWN] {
                    let answer = browser.subscribe(device).await?;
                    ensure!(is_forbidden(&answer), "{cell}, {device}: {answer}");
                }
            }
            let shown = browser.events("device:data", OURS).len();
            ensure!((shown > 0) == read, "{cell}: {shown} readings");
        }
    }
    stack.pass()
}

#[tokio::test]
async fn each_credential_opens_the_doors_that_it_should_over_rest() -> Result<()> {
    let (issuer, stranger) = (TokenIssuer::new()?, TokenIssuer::new()?);
    let stack = start(&issuer, "--allow-anonymous=none").await?;
    for (what, token, allowed) in credentials(&issuer, &stranger)? {
        let token = token.as_deref();
        let (read, acknowledge, retire) = match allowed {
            Allowed::Nothing(_) => (401, 401, 401),
            Allowed::Some {
                read,
                acknowledge,
                retire,
            } => (
                if read { 200 } else { 403 },
                // Neither alarm nor device is there, so that the next client finds the same.
                if acknowledge { 404 } else { 403 },
                if retire { 404 } else { 403 },
            ),
        };
        let check = async |method: &str, path: &str, expected: u16| {
            let answer = rest(&stack, method, path, token).await?;
            ensure!(
                answer.status == expected,
                "{what}: {method} {path}: {answer:?}"
            );
            anyhow::Ok(answer)
        };
        for path in [
            format!("/devices/{OURS}/subtronics/telemetry/latest"),
            format!("/devices/{OURS}/subtronics/alerts"),
            format!("/devices/{OURS}/alarm-logs"),
            format!("/api/devices/{OURS}"),
            format!("/api/devices/{OURS}/history"),
        ] {
            check("GET", &path, read).await?;
        }
        let path = format!("/devices/{OURS}/subtronics/alerts/none/acknowledge");
        check("POST", &path, acknowledge).await?;
        if what != "operator" {
            check("DELETE", &format!("/api/devices/{OURS}"), retire).await?;
        }
        if matches!(allowed, Allowed::Some { .. }) && what != "other device" {
            // A refusal is the same, byte for byte, whether there is such a device or not.
            let mut answers = Vec::new();
            for device in [OTHER, UNKNOWN] {
                let path = format!("/api/devices/{device}");
                answers.push(check("GET", &path, 403).await?.body);
            }
            ensure!(answers[0] == answers[1], "{what}: {answers:?}");
        }
    }
    stack.pass()
}

#[tokio::test]
async fn lists_have_what_the_client_may_read() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    let stack = start(&issuer, "--allow-anonymous=none").await?;
    let token = issuer.token(Signed::Rs256, json!({"devices": [OURS], "verbs": ["read"]}))?;
    let get = async |path: &str| {
        let answer = rest(&stack, "GET", path, Some(&token)).await?;
        answer.expect(200)
    };
    for path in ["/api/devices", "/api/devices?limit=1"] {
        let list = get(path).await?;
        ensure!(list["count"] == 1, "{list}");
        ensure!(
            list["devices"][0]["serial_number"] == OURS || list["devices"][0]["device_id"] == OURS,
            "{list}"
        );
        ensure!(list["next"].is_null(), "{list}");
    }
    let logs = get("/alarm-logs").await?;
    ensure!(logs["total_count"] == 1, "{logs}");
    ensure!(logs["logs"][0]["device_id"] == OURS, "{logs}");
    let of_other = get(&format!("/alarm-logs?device_id={OTHER}")).await?;
    let of_unknown = get(&format!("/alarm-logs?device_id={UNKNOWN}")).await?;
    ensure!(of_other == of_unknown, "{of_other} {of_unknown}");
    let statistics = get("/alarm-logs/statistics").await?;
    ensure!(statistics["total_alarms"] == 1, "{statistics}");
    ensure!(statistics["by_device"] == json!({OURS: 1}), "{statistics}");
    stack.pass()
}

#[tokio::test]
async fn an_acknowledgement_has_the_name_of_the_token() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    let stack = start(&issuer, "--allow-anonymous=none").await?;
    let token = issuer.token(Signed::EdDsa, json!({}))?;
    let path = format!("/devices/{OURS}/subtronics/alerts");
    let alerts = rest(&stack, "GET", &path, Some(&token))
        .await?
        .expect(200)?;
    let alarm = alerts[0]["id"].as_str().context("an alarm")?;
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str())];
    let body = br#"{"acknowledged_by": "somebody else"}"#;
    let acknowledge = format!("{path}/{alarm}/acknowledge");
    let port = stack.gateways[0].port();
    let answer = http::send(port, "POST", &acknowledge, &headers, body).await?;
    answer.expect(200)?;
    let alerts = rest(&stack, "GET", &path, Some(&token))
        .await?
        .expect(200)?;
    ensure!(alerts[0]["acknowledged_by"] == "Ada Example", "{alerts}");
    stack.pass()
}

#[tokio::test]
async fn a_token_in_the_head_of_the_first_request_counts_too() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    let stack = start(&issuer, "--allow-anonymous=none --token-in-query").await?;
    let token = issuer.token(Signed::Hs256, json!({}))?;
    for transport in TRANSPORTS {
        for options in [
            json!({"extraHeaders": {"authorization": format!("Bearer {token}")}}),
            json!({"query": {"token": token}}),
            // An empty one is none: applications send it before anybody has signed in.
            json!({"query": {"token": token}, "auth": {"token": ""}}),
        ] {
            let mut options = options;
            options["transports"] = json!(transport.names());
            let browser = Browser::open(stack.gateways[0].port(), options.clone()).await?;
            let answer = browser.wait_for("the answer to joining", joined).await?;
            ensure!(answer.what == "connect", "{options}: {answer:?}");
            let answer = browser.subscribe(OURS).await?;
            ensure!(answer["ok"] == true, "{options}: {answer}");
        }
    }
    stack.pass()
}

#[tokio::test]
async fn with_broadcasts_only_clients_that_may_read_everything_get_them() -> Result<()> {
    let issuer = TokenIssuer::new()?;
    let stack = start(&issuer, "--allow-anonymous=none --broadcast-all").await?;
    let limited = issuer.token(Signed::Es256, json!({"devices": [OURS]}))?;
    let all = issuer.token(Signed::Es256, json!({}))?;
    let limited = connected(&stack, Transport::WebSocket, &limited).await?;
    let all = connected(&stack, Transport::WebSocket, &all).await?;
    limited.follow(OURS).await?;
    eventually("the broadcast of both devices", async || {
        for device in [OURS, OTHER] {
            stack.device(device).send(301).await?;
            let copies = all.events("subtronics:data", device);
            ensure!(!copies.is_empty(), "none of {device}");
        }
        Ok(())
    })
    .await?;
    // Whatever was sent to all before this is before it.
    stack.device(OURS).send(302).await?;
    let is_last = |seen: &BrowserEvent| {
        seen.is_of("device:data", OURS) && seen.body["data"]["sensor_reading"] == 302
    };
    limited.wait_for("the last reading", is_last).await?;
    let strange =
        |seen: &&BrowserEvent| seen.is_event("subtronics:data") || seen.is_of("device:data", OTHER);
    let seen = limited.seen();
    ensure!(seen.iter().find(strange).is_none(), "{seen:?}");
    stack.pass()
}

#[tokio::test]
async fn the_replaced_front_end_reads_without_a_token_and_is_refused_to_acknowledge() -> Result<()>
{
    let issuer = TokenIssuer::new()?;
    let stack = start(&issuer, "--allow-anonymous=read").await?;
    for transport in TRANSPORTS {
        let browser = open(&stack, transport, None).await?;
        browser
            .wait_for("the connection", |seen| seen.what == "connect")
            .await?;
        // Without a callback, as it does.
        browser.emit("subscribe:device", json!(OURS)).await?;
        browser.event_after(0, "device:data", OURS).await?;
        browser.event_after(0, "device:alerts", OURS).await?;
    }
    for path in ["/api/devices", "/alarm-logs", "/health", "/config"] {
        stack.get(path).await?.expect(200)?;
    }
    let alarm = stack.alerts(OURS).await?;
    let alarm = alarm[0]["id"].as_str().context("an alarm")?;
    let answer = stack.acknowledge(OURS, alarm, "{}").await?.expect(403)?;
    ensure!(answer["error"] == "Not allowed", "{answer}");
    ensure!(answer["error_message"] == "Not allowed", "{answer}");
    let token = issuer.token(Signed::Hs256, json!({}))?;
    let path = format!("/devices/{OURS}/subtronics/alerts/{alarm}/acknowledge");
    rest(&stack, "POST", &path, Some(&token))
        .await?
        .expect(200)?;
    stack.pass()
}

/// The clients lose their connections, replace their tokens and subscribe to devices that they may not read, while all devices
/// send.
#[tokio::test]
async fn no_event_reaches_a_client_that_may_not_read_its_device() -> Result<()> {
    const DEVICES: [&str; 6] = ["A-1", "A-2", "B-1", "B-2", "C-1", "C-2"];
    const ROUNDS: usize = 6;
    let issuer = TokenIssuer::new()?;
    let stack = start(&issuer, "--allow-anonymous=none").await?;
    let token = |group: &str| {
        issuer.token(
            Signed::Es256,
            json!({"sub": group, "devices": [format!("{group}-*")], "verbs": ["read"]}),
        )
    };
    let mut clients = Vec::new();
    for (group, transport) in ["A", "B", "C"].into_iter().zip(TRANSPORTS) {
        clients.push((group, connected(&stack, transport, &token(group)?).await?));
    }
    for round in 1..=ROUNDS {
        for device in DEVICES {
            // Over and below the first level, so that there are alarms, too.
            let value = if round % 2 == 0 { 20 } else { 300 };
            stack.device(device).send(value).await?;
        }
        for (group, client) in &clients {
            for device in DEVICES {
                let answer = client
                    .subscribe_since(device, &json!("73047088fdba"), 0)
                    .await?;
                let is_own = device.starts_with(group);
                ensure!(answer["ok"] == is_own, "{group} {device}: {answer}");
                ensure!(
                    is_own || is_forbidden(&answer),
                    "{group} {device}: {answer}"
                );
            }
            let answer = client
                .ask("auth:refresh", json!({"token": token(group)?}))
                .await?;
            ensure!(answer["ok"] == true, "{answer}");
            // Another client's token is refused, whatever it allows.
            let other = if *group == "A" { "B" } else { "A" };
            let answer = client
                .ask("auth:refresh", json!({"token": token(other)?}))
                .await?;
            ensure!(answer["ok"] == false, "{answer}");
            if round % 2 == 0 {
                client.lose_connection().await?;
            }
        }
    }
    for device in DEVICES {
        stack.device(device).send(21).await?;
    }
    for (group, client) in &clients {
        for device in DEVICES
            .into_iter()
            .filter(|device| device.starts_with(group))
        {
            client.subscribe(device).await?;
            let is_last = |seen: &BrowserEvent| {
                seen.is_of("device:data", device) && seen.body["data"]["sensor_reading"] == 21
            };
            client.wait_for("the last reading", is_last).await?;
        }
        let seen = client.seen();
        let devices = seen
            .iter()
            .filter_map(|seen| seen.body["deviceId"].as_str());
        let foreign: Vec<&str> = devices
            .filter(|device| !device.starts_with(group))
            .collect();
        ensure!(foreign.is_empty(), "{group}: {foreign:?}");
    }
    stack.pass()
}
