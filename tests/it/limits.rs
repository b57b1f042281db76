//! Each limit holds a client that exceeds it, and nobody else: a good client receives every reading and gets every answer meanwhile. A
//! limit that is tried out counts the same and holds nobody.

mod clients;
mod proxied;

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::eventually::eventually;
use tests::http::{self, Response};
use tests::report;
use tests::stack::{Plan, Service, Stack};
use tests::websocket::WebSocket;

const DEVICE: &str = "OTSM-0001";
/// A client of another address than the browser of a test.
const BAD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

/// A running system with a client that is within all limits.
struct Good {
    stack: Stack,
    browser: Browser,
    sent: Vec<Value>,
}

impl Good {
    /// `limit`: only tried out if `dry`.
    async fn start(flags: &str, limit: &str, dry: bool) -> Result<Self> {
        let mut plan = Plan::default().gateway_flags(flags);
        if dry {
            plan = plan.gateway_flags(&format!("--limits-dry-run={limit}"));
        }
        let stack = plan.start().await?;
        stack.device(DEVICE).send(0).await?;
        stack.shows(DEVICE, 0).await?;
        let browser = stack.browser().await?;
        browser.follow(DEVICE).await?;
        Ok(Self {
            stack,
            browser,
            sent: vec![json!(0)],
        })
    }

    fn gateway(&self) -> &Service {
        &self.stack.gateways[0]
    }

    fn port(&self) -> u16 {
        self.gateway().port()
    }

    /// Sends one more reading, which must arrive, and all before it.
    async fn receives_a_reading(&mut self) -> Result<()> {
        let value = self.sent.len();
        self.stack.device(DEVICE).send(value).await?;
        self.sent.push(json!(value));
        let what = format!("reading {value} at the good client");
        self.browser
            .wait_for(&what, |seen| {
                seen.is_of("device:data", DEVICE) && seen.body["data"]["sensor_reading"] == value
            })
            .await?;
        let events = self.browser.events("device:data", DEVICE);
        let received: Vec<_> = events
            .iter()
            .map(|event| event["data"]["sensor_reading"].clone())
            .collect();
        ensure!(received == self.sent, "{received:?}");
        Ok(())
    }

    /// Returns how often this limit was exceeded, refused and tried out.
    async fn counts(&self, limit: &str) -> Result<(f64, f64)> {
        let count = async |action: &str| {
            let series = format!(r#"gateway_limited_total{{action="{action}",limit="{limit}"}}"#);
            self.gateway().metric(&series).await
        };
        Ok((count("refused").await?, count("dry_run").await?))
    }

    /// Checks the counts of a limit, and that the good client was connected all the time. Returns how often the limit was exceeded.
    async fn ends(mut self, limit: &str, dry: bool) -> Result<f64> {
        self.receives_a_reading().await?;
        let (refused, tried) = self.counts(limit).await?;
        let (counted, other) = if dry {
            (tried, refused)
        } else {
            (refused, tried)
        };
        ensure!(
            counted > 0.5 && other < 0.5,
            "{limit}: {refused} refused, {tried} tried"
        );
        let is_lost = |what: &str| ["disconnect", "connect_error"].contains(&what);
        let lost = self
            .browser
            .seen()
            .into_iter()
            .filter(|seen| is_lost(&seen.what));
        ensure!(lost.count() == 0, "{:?}", self.browser.seen());
        self.stack.pass()?;
        Ok(counted)
    }
}

/// Checks a refusal.
fn is_refused(answer: &Response, status: u16) -> Result<()> {
    ensure!(answer.status == status, "{answer:?}");
    let wait: u64 = answer.header("retry-after").parse()?;
    ensure!(wait >= 1, "{answer:?}");
    Ok(())
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn is_close(one: f64, other: usize) -> bool {
    (one - number(other)).abs() < 0.5
}

/// Returns the headers with which the trusted proxy of a test names this client.
fn forwarded_for(client: &str) -> [(&str, &str); 1] {
    [("x-forwarded-for", client)]
}

#[tokio::test]
async fn an_address_has_so_many_connections_over_any_transport() -> Result<()> {
    const MAX: usize = 6;
    const TRIED: usize = 20;
    for dry in [false, true] {
        let flags = format!(
            "--max-connections-per-address={MAX} --trusted-proxies=127.0.0.1 --connect-timeout=10m --ping-timeout=10m"
        );
        let mut good = Good::start(&flags, "max-connections-per-address", dry).await?;
        let port = good.port();
        let mut websockets = Vec::new();
        let mut refused = 0;
        for attempt in 0..TRIED {
            if attempt % 2 == 0 {
                let answer =
                    http::send(port, "GET", POLLING, &forwarded_for("192.0.2.9"), b"").await?;
                if answer.status != 200 {
                    is_refused(&answer, 429)?;
                    ensure!(answer.json()?["code"] == 4, "{answer:?}");
                    refused += 1;
                }
            } else {
                let header = "x-forwarded-for: 192.0.2.9\r\n";
                match WebSocket::open_with(port, WEBSOCKET, header).await {
                    Ok(websocket) => websockets.push(websocket),
                    Err(error) => {
                        let text = error.to_string();
                        ensure!(text.contains("429") && text.contains("etry-"), "{text}");
                        refused += 1;
                    }
                }
            }
            good.receives_a_reading().await?;
            // Another client of the same proxy.
            let other = format!("192.0.2.{}", 10 + attempt);
            let answer = http::send(port, "GET", POLLING, &forwarded_for(&other), b"").await?;
            ensure!(answer.status == 200, "{answer:?}");
        }
        ensure!(
            refused == if dry { 0 } else { TRIED - MAX },
            "{refused} refused"
        );
        // One that leaves makes room.
        if !dry {
            drop(websockets.pop());
            eventually("a place is free", async || {
                let answer =
                    http::send(port, "GET", POLLING, &forwarded_for("192.0.2.9"), b"").await?;
                ensure!(answer.status == 200, "{answer:?}");
                Ok(())
            })
            .await?;
        }
        let readings = good.sent.len();
        let counted = good.ends("max_connections_per_address", dry).await?;
        let exceeded = number(TRIED - MAX);
        // While the place was not free yet, further ones were refused.
        ensure!(
            if dry {
                is_close(counted, TRIED - MAX)
            } else {
                counted >= exceeded
            },
            "{counted}"
        );
        report::line(&format!(
            "limits: {TRIED} connections of one address, {MAX} allowed, dry run {dry}: {counted} counted, {refused} refused; \
             the good client received {readings} readings of {readings}"
        ));
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_counts_once_through_its_upgrade_and_until_its_end() -> Result<()> {
    let flags = "--max-connections-per-address=2";
    let good = Good::start(flags, "", false).await?;
    let upgraded = Browser::connect(good.port(), tests::browser::Transport::Upgrade).await?;
    let refused = http::send(good.port(), "GET", POLLING, &[], b"").await?;
    is_refused(&refused, 429)?;
    upgraded.disconnect().await?;
    // The client tries until its place is free.
    upgraded.reconnect().await?;
    good.ends("max_connections_per_address", false).await?;
    Ok(())
}

/// Tries to open so many connections as a client of this address. Returns how many were refused with this status.
async fn open_many(port: u16, from: Ipv4Addr, count: usize, status: u16) -> Result<usize> {
    let mut refused = 0;
    for _ in 0..count {
        let answer = http::send_from(from, port, POLLING).await?;
        if answer.status != 200 {
            is_refused(&answer, status)?;
            refused += 1;
        }
    }
    Ok(refused)
}

#[tokio::test]
async fn an_address_opens_so_many_connections_per_second() -> Result<()> {
    const TRIED: usize = 120;
    for dry in [false, true] {
        let flags = "--handshake-rate-per-address=1";
        let mut good = Good::start(flags, "handshake-rate-per-address", dry).await?;
        let mut refused = 0;
        for _ in 0..TRIED / 20 {
            refused += open_many(good.port(), BAD, 20, 429).await?;
            good.receives_a_reading().await?;
        }
        // The good client opens one more.
        let another = Browser::connect(good.port(), tests::browser::Transport::Upgrade).await?;
        another.follow(DEVICE).await?;
        let counted = good.ends("handshake_rate_per_address", dry).await?;
        ensure!(
            dry == (refused == 0) && (dry || is_close(counted, refused)),
            "{refused}"
        );
        report::line(&format!(
            "limits: {TRIED} handshakes of one address, 1 per second allowed, dry run {dry}: {counted} counted, {refused} refused"
        ));
    }
    Ok(())
}

#[tokio::test]
async fn all_handshakes_are_limited_and_shared_fairly() -> Result<()> {
    const GREEDY: u8 = 3;
    const TRIED: usize = 40;
    for dry in [false, true] {
        let flags = "--handshake-rate=10 --handshake-rate-per-address=0";
        let mut good = Good::start(flags, "handshake-rate", dry).await?;
        let port = good.port();
        let (mut refused, mut opened) = (0, 0);
        for round in 0..6 {
            for last in 0..GREEDY {
                let from = Ipv4Addr::new(127, 0, 1, last + 1);
                refused += open_many(port, from, TRIED, 503).await?;
            }
            // Somebody who has opened nothing yet finds a place, however full it is.
            let newcomer = Ipv4Addr::new(127, 0, 2, round + 1);
            let answer = http::send_from(newcomer, port, POLLING).await?;
            ensure!(answer.status == 200, "round {round}: {answer:?}");
            opened += 1;
            good.receives_a_reading().await?;
        }
        let counted = good.ends("handshake_rate", dry).await?;
        ensure!(
            dry == (refused == 0) && (dry || is_close(counted, refused)),
            "{refused}"
        );
        report::line(&format!(
            "limits: {GREEDY} greedy addresses, dry run {dry}: {counted} handshakes counted, {refused} refused; {opened} of {opened} \
             newcomers connected"
        ));
    }
    Ok(())
}

#[tokio::test]
async fn an_address_asks_so_much_of_rest_per_second() -> Result<()> {
    const TRIED: usize = 80;
    for dry in [false, true] {
        let mut good = Good::start("--request-rate=20", "request-rate", dry).await?;
        let port = good.port();
        let (mut refused, mut answered) = (0, 0);
        for attempt in 0..TRIED {
            let answer = http::send_from(BAD, port, "/api/devices").await?;
            if answer.status != 200 {
                is_refused(&answer, 429)?;
                let body = answer.json()?;
                ensure!(
                    body["error_code"] == "limited" && body["error"] == body["error_message"],
                    "{body}"
                );
                refused += 1;
            }
            if attempt % 10 == 0 {
                good.stack.get("/openapi.json").await?.expect(200)?;
                good.stack.alerts(DEVICE).await?;
                answered += 2;
                good.receives_a_reading().await?;
            }
        }
        // Probes have no limit.
        for path in ["/livez", "/readyz", "/metrics", "/health"] {
            let answer = http::send_from(BAD, port, path).await?;
            ensure!(answer.status == 200, "{answer:?}");
        }
        let counted = good.ends("request_rate", dry).await?;
        ensure!(
            dry == (refused == 0) && (dry || is_close(counted, refused)),
            "{refused}"
        );
        report::line(&format!(
            "limits: {TRIED} lists of devices for one address, one per second allowed, dry run {dry}: {counted} counted, {refused} \
             refused; the good client got {answered} answers of {answered}"
        ));
    }
    Ok(())
}

#[tokio::test]
async fn who_reads_too_much_can_still_acknowledge() -> Result<()> {
    let flags = "--request-rate=20 --trusted-proxies=127.0.0.1";
    let good = Good::start(flags, "", false).await?;
    let (port, site) = (good.port(), forwarded_for("192.0.2.9"));
    good.stack.device("OTSM-0002").send(1_200).await?;
    good.stack.shows("OTSM-0002", 1_200).await?;
    let alerts = good.stack.alerts("OTSM-0002").await?;
    eventually("no more lists for this site", async || {
        let answer = http::send(port, "GET", "/config", &site, b"").await?;
        is_refused(&answer, 429)
    })
    .await?;
    let id = alerts[0]["id"].as_str().unwrap_or_default();
    let path = format!("/devices/OTSM-0002/subtronics/alerts/{id}/acknowledge");
    let answer = http::send(port, "POST", &path, &site, b"").await?;
    answer.expect(200)?;
    good.ends("request_rate", false).await?;
    Ok(())
}
