//! People sign in with a browser, at two replicas.

use std::io::Write as _;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tests::browser::{Browser, BrowserEvent, Transport};
use tests::eventually::eventually;
use tests::http::Response;
use tests::identity_provider::{CLIENT, IdentityProvider};
use tests::stack::{Plan, Stack};
use tests::visitor::Visitor;

const DEVICE: &str = "OTSM-0114";
/// Where the provider sends browsers back. The visitors of these tests go to the replica that they want.
const PUBLIC: &str = "http://127.0.0.1:3002";
/// An allowed origin that is not the gateway itself.
const OTHER_PAGE: &str = "http://localhost:5173";

struct World {
    provider: IdentityProvider,
    stack: Stack,
    /// Deleted with this.
    _files: Vec<NamedTempFile>,
}

fn file(content: &str) -> Result<NamedTempFile> {
    let mut file = NamedTempFile::new()?;
    file.write_all(content.as_bytes())?;
    Ok(file)
}

/// Starts two replicas at which people sign in, with an open alarm.
async fn start(flags: &str) -> Result<World> {
    let provider = IdentityProvider::start().await?;
    let (stack, files) = start_with(&provider.issuer(), flags).await?;
    stack.device(DEVICE).send(300).await?;
    Ok(World {
        provider,
        stack,
        _files: files,
    })
}

async fn start_with(issuer: &str, flags: &str) -> Result<(Stack, Vec<NamedTempFile>)> {
    let files = vec![file(&"k".repeat(32))?, file("secret of the client\n")?];
    let path = |index: usize| {
        files
            .get(index)
            .map(|file| file.path().display().to_string())
    };
    let flags = format!(
        "--allow-anonymous=none --oidc-issuer={issuer} --oidc-client-id={CLIENT} --public-url={PUBLIC} \
         --session-key-file={} --oidc-client-secret-file={}{flags}",
        path(0).context("a key")?,
        path(1).context("a secret")?,
    );
    let plan = Plan::default().gateways(2).gateway_flags(&flags);
    Ok((plan.start().await?, files))
}

impl World {
    fn ports(&self) -> [u16; 2] {
        [0, 1].map(|index| self.stack.gateways[index].port())
    }

    /// Signs in, and returns the browser and what a page must send with changes.
    async fn signed_in(&self) -> Result<(Visitor, String)> {
        let mut visitor = Visitor::default();
        let [port, _] = self.ports();
        visitor.sign_in(port).await?;
        let session = session(&mut visitor, port).await?;
        let token = session["csrf_token"].as_str().context("a token")?;
        Ok((visitor, token.to_owned()))
    }
}

/// Waits until a part of the audit trail has an entry with these fields, and returns it.
async fn audited(admin: &mut Visitor, port: u16, which: &str, expected: &Value) -> Result<Value> {
    let path = format!("/api/audit?part={which}");
    let expected_fields = expected.as_object().context("an object")?;
    eventually("the entry of the audit trail", async || {
        let trail = admin.get(port, &path).await?.expect(200)?;
        let entries = trail["entries"].as_array().context("entries")?;
        let matches = |entry: &&Value| {
            expected_fields
                .iter()
                .all(|(name, value)| entry[name] == *value)
        };
        let found = entries.iter().find(matches);
        found
            .cloned()
            .with_context(|| format!("no {expected} in {trail}"))
    })
    .await
}

async fn session(visitor: &mut Visitor, port: u16) -> Result<Value> {
    visitor.get(port, "/auth/session").await?.expect(200)
}

fn is_refused(answer: &Response, status: u16, code: &str) -> Result<()> {
    let body = answer.expect(status)?;
    ensure!(body["error_code"] == code, "{body}");
    Ok(())
}

#[tokio::test]
async fn whoever_signs_in_at_one_replica_is_known_to_the_other() -> Result<()> {
    let mut world = start("").await?;
    let [first, second] = world.ports();
    world
        .provider
        .set_claims(json!({"devices": ["OTSM-01*"], "verbs": ["read"]}))
        .await?;
    let mut visitor = Visitor::default();
    is_refused(
        &visitor.get(first, "/auth/session").await?,
        401,
        "unauthorized",
    )?;
    let callback = visitor
        .come_back_from_provider(first, "/devices%3Ftab=1")
        .await?;
    // The provider sends the browser to the other replica.
    let answer = visitor.get(second, &callback).await?;
    ensure!(answer.status == 303, "{answer:?}");
    ensure!(answer.header("location") == "/devices?tab=1", "{answer:?}");
    ensure!(answer.header("cache-control") == "no-store", "{answer:?}");
    ensure!(visitor.cookie_names() == ["gateway-session"], "{visitor:?}");
    for port in [first, second] {
        let session = session(&mut visitor, port).await?;
        ensure!(session["subject"] == "user-1", "{session}");
        ensure!(session["name"] == "Ada Example", "{session}");
        ensure!(session["devices"] == json!(["OTSM-01*"]), "{session}");
        ensure!(session["verbs"] == json!(["read"]), "{session}");
        ensure!(session["expires"].is_string(), "{session}");
        let path = format!("/api/devices/{DEVICE}");
        visitor.get(port, &path).await?.expect(200)?;
        is_refused(
            &visitor.get(port, "/api/devices/OTSM-0200").await?,
            403,
            "forbidden",
        )?;
    }
    world.stack.pass()
}

#[tokio::test]
async fn what_comes_back_from_elsewhere_signs_nobody_in() -> Result<()> {
    let world = start("").await?;
    let [port, _] = world.ports();
    for back in [
        "https://evil.example/",
        "//evil.example",
        "/%5Cevil.example",
        "evil",
    ] {
        let path = format!("/auth/login?return={back}");
        is_refused(&Visitor::default().get(port, &path).await?, 400, "sign_in")?;
    }
    let mut visitor = Visitor::default();
    let callback = visitor.come_back_from_provider(port, "/").await?;
    let other = visitor.clone().come_back_from_provider(port, "/").await?;
    let issuer = world.provider.issuer();
    for (path, mut visitor, status) in [
        // Another attempt: its state and its code are not those of this browser.
        (other, visitor.clone(), 400),
        (callback.clone(), Visitor::default(), 400),
        (callback.replace("state=", "state=x"), visitor.clone(), 400),
        (callback.replace("code=", "code=x"), visitor.clone(), 403),
        (callback.replace("code=", "cod="), visitor.clone(), 403),
        (format!("{callback}&iss={issuer}x"), visitor.clone(), 403),
        (
            format!("{callback}&error=access_denied"),
            visitor.clone(),
            403,
        ),
    ] {
        let answer = visitor.get(port, &path).await?;
        ensure!(answer.status == status, "{path}: {answer:?}");
        is_refused(&answer, status, "sign_in")?;
        is_refused(
            &visitor.get(port, "/auth/session").await?,
            401,
            "unauthorized",
        )?;
    }
    // The code is still good, once.
    let before = visitor.clone();
    let answer = visitor
        .get(port, &format!("{callback}&iss={issuer}"))
        .await?;
    ensure!(answer.status == 303, "{answer:?}");
    session(&mut visitor, port).await?;
    is_refused(&visitor.get(port, &callback).await?, 400, "sign_in")?;
    let mut thief = before;
    is_refused(&thief.get(port, &callback).await?, 403, "sign_in")?;
    world.stack.pass()
}

#[tokio::test]
async fn an_id_token_for_something_else_signs_nobody_in() -> Result<()> {
    let mut world = start("").await?;
    let [port, _] = world.ports();
    let long: Vec<String> = (0..100).map(|number| format!("{number:0>64}")).collect();
    for claims in [
        json!({"nonce": "of another attempt"}),
        json!({"nonce": null}),
        json!({"aud": "another client"}),
        json!({"azp": "another client"}),
        json!({"iss": "https://login.example.com"}),
        json!({"exp": 1}),
        json!({"exp": null}),
        json!({"sub": null}),
        json!({"verbs": ["everything"]}),
        json!({"devices": long}),
    ] {
        world.provider.set_claims(claims.clone()).await?;
        let mut visitor = Visitor::default();
        let callback = visitor.come_back_from_provider(port, "/").await?;
        let answer = visitor.get(port, &callback).await?;
        is_refused(&answer, 403, "sign_in").with_context(|| claims.to_string())?;
        is_refused(
            &visitor.get(port, "/auth/session").await?,
            401,
            "unauthorized",
        )?;
    }
    world.stack.pass()
}

#[tokio::test]
async fn only_a_page_of_the_gateway_changes_something() -> Result<()> {
    let mut world = start("").await?;
    let [port, _] = world.ports();
    let (mut visitor, token) = world.signed_in().await?;
    let alerts = format!("/devices/{DEVICE}/subtronics/alerts");
    let alarm = eventually("its alarm is there", async || {
        let alerts = visitor.get(port, &alerts).await?.expect(200)?;
        let alarm = alerts[0]["id"].as_str().context("an alarm")?;
        Ok(alarm.to_owned())
    })
    .await?;
    let acknowledge = format!("{alerts}/{alarm}/acknowledge");
    let own = format!("http://127.0.0.1:{port}");
    let own = ("origin", own.as_str());
    let csrf = ("x-csrf-token", token.as_str());
    let (_, of_other) = world.signed_in().await?;
    for headers in [
        &[][..],
        &[own],
        &[csrf],
        &[own, ("x-csrf-token", &of_other)],
        &[csrf, ("sec-fetch-site", "none")],
    ] {
        let answer = visitor.send(port, "POST", &acknowledge, headers).await?;
        is_refused(&answer, 403, "csrf").with_context(|| format!("{headers:?}"))?;
        let answer = visitor.send(port, "POST", "/auth/logout", headers).await?;
        is_refused(&answer, 403, "csrf").with_context(|| format!("{headers:?}"))?;
    }
    // For these, the cookie does not even count for reading.
    for headers in [
        &[csrf, ("origin", OTHER_PAGE)][..],
        &[csrf, own, ("sec-fetch-site", "cross-site")],
        &[csrf, ("sec-fetch-site", "same-site")],
    ] {
        for (method, path) in [("POST", &acknowledge), ("GET", &alerts)] {
            let answer = visitor.send(port, method, path, headers).await?;
            is_refused(&answer, 401, "unauthorized").with_context(|| format!("{headers:?}"))?;
        }
    }
    let evil = [csrf, ("origin", "https://evil.example")];
    let answer = visitor.send(port, "POST", &acknowledge, &evil).await?;
    is_refused(&answer, 403, "refused_origin")?;

    let answer = visitor
        .send(port, "POST", &acknowledge, &[own, csrf])
        .await?;
    answer.expect(200)?;
    let alerts = visitor.get(port, &alerts).await?.expect(200)?;
    ensure!(alerts[0]["acknowledged_by"] == "Ada Example", "{alerts}");

    let claims = json!({"sub": "admin-1", "verbs": ["admin"]});
    world.provider.set_claims(claims).await?;
    let (mut admin, _) = world.signed_in().await?;
    let asked = format!("POST {acknowledge}");
    let refusal = json!({"reason": "csrf", "detail": asked, "subject": "user-1"});
    audited(&mut admin, port, "refused", &refusal).await?;
    world.stack.pass()
}

#[tokio::test]
async fn who_signs_in_and_out_and_who_is_refused_is_in_the_audit_trail() -> Result<()> {
    let mut world = start("").await?;
    let [port, _] = world.ports();
    let (mut visitor, token) = world.signed_in().await?;
    let own = format!("http://127.0.0.1:{port}");
    let headers = [("origin", own.as_str()), ("x-csrf-token", &token)];
    let answer = visitor.send(port, "POST", "/auth/logout", &headers).await?;
    answer.expect(200)?;
    let foreign = "/auth/login?return=https://evil.example/";
    is_refused(&visitor.get(port, foreign).await?, 400, "sign_in")?;
    let callback = visitor.come_back_from_provider(port, "/").await?;
    is_refused(
        &visitor
            .clone()
            .get(port, &format!("{callback}&error=access_denied"))
            .await?,
        403,
        "sign_in",
    )?;
    is_refused(
        &Visitor::default().get(port, &callback).await?,
        400,
        "sign_in",
    )?;

    let claims = json!({"sub": "admin-1", "verbs": ["admin"]});
    world.provider.set_claims(claims).await?;
    let (mut admin, _) = world.signed_in().await?;
    let here = "127.0.0.1";
    let wanted =
        json!({"action": "signed_in", "subject": "user-1", "name": "Ada Example", "address": here});
    let signed_in = audited(&mut admin, port, "sessions", &wanted).await?;
    ensure!(signed_in["detail"].is_string(), "{signed_in}");
    let mut wanted = wanted;
    wanted["action"] = json!("signed_out");
    // The same session.
    wanted["detail"] = signed_in["detail"].clone();
    audited(&mut admin, port, "sessions", &wanted).await?;
    for (reason, detail) in [
        (
            "sign_in_foreign_return",
            "GET /auth/login: return: expected a path of this service, such as `/`",
        ),
        (
            "sign_in_refused",
            "GET /auth/callback: The identity provider has not signed you in: access_denied",
        ),
        (
            "sign_in_not_begun",
            "GET /auth/callback: The sign-in was begun elsewhere, or took too long: begin again at /auth/login",
        ),
    ] {
        let wanted =
            json!({"action": "refused", "reason": reason, "detail": detail, "address": here});
        audited(&mut admin, port, "refused", &wanted).await?;
    }
    // Nobody is told what a code or a state was.
    for part in ["refused", "sessions"] {
        let path = format!("/api/audit?part={part}");
        let trail = admin.get(port, &path).await?.expect(200)?.to_string();
        ensure!(
            !trail.contains("state=") && !trail.contains("code="),
            "{trail}"
        );
    }
    world.stack.pass()
}

/// A session needs no Redis. That somebody has one is written as soon as Redis is back.
#[tokio::test]
async fn who_signs_in_while_redis_is_away_is_in_the_audit_trail_once_it_is_back() -> Result<()> {
    let mut world = start("").await?;
    let [port, _] = world.ports();
    let claims = json!({"sub": "admin-1", "verbs": ["admin"]});
    world.provider.set_claims(claims).await?;
    let (mut admin, _) = world.signed_in().await?;
    let claims = json!({"sub": "late-1", "verbs": ["read"]});
    world.provider.set_claims(claims).await?;
    world.stack.redis_proxy.cut();
    world.signed_in().await?;
    world.stack.redis_proxy.heal();
    let times = async |admin: &mut Visitor| {
        let trail = admin
            .get(port, "/api/audit?part=sessions")
            .await?
            .expect(200)?;
        let entries = trail["entries"].as_array().context("entries")?;
        let of_late = entries.iter().filter(|entry| entry["subject"] == "late-1");
        anyhow::Ok(of_late.count())
    };
    eventually("the entry", async || {
        ensure!(times(&mut admin).await? == 1, "not yet");
        Ok(())
    })
    .await?;
    // Entries are written one after the other.
    world.signed_in().await?;
    eventually("the next entry", async || {
        ensure!(times(&mut admin).await? == 2, "not yet");
        Ok(())
    })
    .await?;
    world.stack.pass()
}

async fn open(port: u16, transport: Transport, visitor: &Visitor, origin: &str) -> Result<Browser> {
    let options = json!({
        "transports": transport.names(),
        "reconnection": false,
        "extraHeaders": {"cookie": visitor.cookie_header(), "origin": origin},
    });
    Browser::open(port, options).await
}

fn joined(seen: &BrowserEvent) -> bool {
    seen.what == "connect" || seen.what == "connect_error"
}

#[tokio::test]
async fn a_session_opens_live_data_and_ends_with_it_everywhere() -> Result<()> {
    let world = start("").await?;
    let (mut visitor, token) = world.signed_in().await?;
    let before = visitor.clone();
    let [first, second] = world.ports();
    let mut open_ones = Vec::new();
    for port in [first, second] {
        let own = format!("http://127.0.0.1:{port}");
        for transport in [Transport::WebSocket, Transport::Polling, Transport::Upgrade] {
            let browser = open(port, transport, &visitor, &own).await?;
            let answer = browser.wait_for("the answer to joining", joined).await?;
            ensure!(answer.what == "connect", "{transport:?}: {answer:?}");
            let answer = browser.subscribe(DEVICE).await?;
            ensure!(answer["ok"] == true, "{answer}");
            open_ones.push(browser);
            let foreign = open(port, transport, &visitor, OTHER_PAGE).await?;
            let answer = foreign.wait_for("the answer to joining", joined).await?;
            ensure!(answer.name == "token required", "{transport:?}: {answer:?}");
        }
    }
    let own = format!("http://127.0.0.1:{second}");
    let headers = [("origin", own.as_str()), ("x-csrf-token", &token)];
    let answer = visitor
        .send(second, "POST", "/auth/logout", &headers)
        .await?;
    answer.expect(200)?;
    ensure!(visitor.cookie_names().is_empty(), "{visitor:?}");
    for browser in &open_ones {
        let ends = |seen: &BrowserEvent| seen.what == "disconnect";
        browser.wait_for("the end of the session", ends).await?;
    }
    // A copy of the cookie is worth nothing.
    for port in [first, second] {
        let mut thief = before.clone();
        eventually("the session is refused", async || {
            let answer = thief.get(port, "/auth/session").await?.expect(401)?;
            ensure!(answer["error"] == "revoked token", "{answer}");
            Ok(())
        })
        .await?;
    }
    world.stack.pass()
}

#[tokio::test]
async fn sessions_of_one_user_share_its_connections() -> Result<()> {
    let world = start(" --max-connections-per-subject=1").await?;
    let [port, _] = world.ports();
    let own = format!("http://127.0.0.1:{port}");
    let mut open_ones = Vec::new();
    for (transport, expected) in [
        (Transport::WebSocket, "connect"),
        (Transport::WebSocket, "connect_error"),
        (Transport::Polling, "connect_error"),
    ] {
        // Each has a session of its own.
        let (visitor, _) = world.signed_in().await?;
        let browser = open(port, transport, &visitor, &own).await?;
        let answer = browser.wait_for("the answer to joining", joined).await?;
        ensure!(answer.what == expected, "{transport:?}: {answer:?}");
        if expected == "connect_error" {
            ensure!(answer.name == "too many connections", "{answer:?}");
        }
        open_ones.push(browser);
    }
    world.stack.pass()
}

#[tokio::test]
async fn a_session_ends_by_itself() -> Result<()> {
    let world = start(" --session-time=1s --token-grace=1s").await?;
    let [port, _] = world.ports();
    let mut visitor = Visitor::default();
    visitor.sign_in(port).await?;
    // The visitor keeps the cookie for longer than a browser does.
    eventually("the session has expired", async || {
        let answer = visitor.get(port, "/auth/session").await?.expect(401)?;
        ensure!(answer["error"] == "expired token", "{answer}");
        Ok(())
    })
    .await?;
    world.stack.pass()
}

#[tokio::test]
async fn while_the_provider_is_away_nobody_signs_in_and_whoever_has_goes_on() -> Result<()> {
    // Nothing listens there.
    let (stack, _files) = start_with("http://127.0.0.1:1", "").await?;
    let answer = stack.gateways[0].get("/auth/login").await?;
    ensure!(answer.header("retry-after") == "2", "{answer:?}");
    is_refused(&answer, 503, "provider_away")?;
    stack.pass()?;

    let mut world = start("").await?;
    let [port, _] = world.ports();
    let (mut visitor, _) = world.signed_in().await?;
    let mut late = Visitor::default();
    let callback = late.come_back_from_provider(port, "/").await?;
    world.provider.end().await?;
    session(&mut visitor, port).await?;
    is_refused(&late.get(port, &callback).await?, 503, "provider_away")?;
    world.stack.pass()
}
