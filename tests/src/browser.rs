//! A fake browser: the official JavaScript client in its own Node process, and a log of everything it received.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::described::{self, Comparison};
use crate::eventually::LATE;
use crate::node_script::NodeScript;
use crate::schemas::Seen;

/// How the client reaches the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// WebSocket only.
    WebSocket,
    /// Long polling only.
    Polling,
    /// Long polling, upgraded to WebSocket: the client's default.
    Upgrade,
}

impl Transport {
    /// Returns the names of the client library.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::WebSocket => &["websocket"],
            Self::Polling => &["polling"],
            Self::Upgrade => &["polling", "websocket"],
        }
    }
}

/// How a client finds the position from which it continues after a lost connection (`tests/js/positions.mjs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// By `more`: from the newest position that is whole.
    Whole,
    /// Without `more`: from the position before the newest one.
    BeforeNewest,
}

/// One entry in the log of a browser.
#[derive(Clone, Debug, Deserialize)]
pub struct BrowserEvent {
    /// `event`, `ack`, `kept` (the answer to what is emitted after each reconnection), `connect`, `connect_error`, `disconnect`, `upgrade` or `extensions` (of a WebSocket). For a followed device also `again` (an event
    /// that it had already received) and `followed` (the answer to a subscription).
    pub what: String,
    /// The name of the event or of the transport, a reason, or the followed device.
    #[serde(default)]
    pub name: String,
    /// The first argument.
    #[serde(default)]
    pub body: Value,
    /// When it arrived here.
    #[serde(skip, default = "Instant::now")]
    pub arrived: Instant,
    /// The request that an `ack` answers.
    #[serde(default)]
    id: u64,
    /// When the test read it.
    #[serde(skip, default = "Instant::now")]
    pub at: Instant,
}

impl BrowserEvent {
    /// Returns whether the entry is this event.
    pub fn is_event(&self, name: &str) -> bool {
        self.what == "event" && self.name == name
    }

    /// Returns whether the entry is this event of this device.
    pub fn is_of(&self, name: &str, device: &str) -> bool {
        self.is_event(name) && self.body["deviceId"] == device
    }

    /// Returns the `seq` of the event's position.
    pub fn seq(&self) -> Option<u64> {
        self.body["seq"].as_u64()
    }
}

/// A running client.
#[derive(Debug)]
pub struct Browser {
    url: String,
    commands: tokio::sync::Mutex<ChildStdin>,
    log: Arc<Mutex<Vec<BrowserEvent>>>,
    length: watch::Receiver<usize>,
    requests: AtomicU64,
    comparison: Arc<Comparison>,
    // Killed with the browser.
    _child: Child,
    _tasks: JoinSet<()>,
}

impl Browser {
    /// Starts a client and waits until it is connected to the gateway on this port.
    pub async fn connect(port: u16, transport: Transport) -> Result<Self> {
        let url = format!("http://127.0.0.1:{port}");
        Self::connect_to(url, transport, &Value::Null).await
    }

    /// As [`Self::connect`], over HTTPS. `authority` is the file with the certificate of whom the client trusts.
    pub async fn connect_over_tls(
        port: u16,
        transport: Transport,
        authority: &Path,
    ) -> Result<Self> {
        let authority = fs::read_to_string(authority).context("the authority")?;
        let url = format!("https://localhost:{port}");
        Self::connect_to(url, transport, &authority.into()).await
    }

    async fn connect_to(url: String, transport: Transport, authority: &Value) -> Result<Self> {
        let mut options = json!({
            "transports": transport.names(),
            "reconnectionDelay": 50,
            "reconnectionDelayMax": 200,
            "randomizationFactor": 0,
        });
        if !authority.is_null() {
            options["ca"] = authority.clone();
        }
        let browser = Self::start(url, options).await?;
        browser
            .wait_for("the connection", |seen| seen.what == "connect")
            .await?;
        if transport == Transport::Upgrade {
            browser
                .wait_for("the upgrade", |seen| seen.what == "upgrade")
                .await?;
        }
        Ok(browser)
    }

    /// Starts a client with these options of socket.io-client and lets it connect in the background.
    pub async fn open(port: u16, options: Value) -> Result<Self> {
        Self::start(format!("http://127.0.0.1:{port}"), options).await
    }

    /// As [`Self::open`], over HTTPS. `authority` is the file with the certificate of whom the client trusts.
    pub async fn open_over_tls(port: u16, mut options: Value, authority: &Path) -> Result<Self> {
        let authority = fs::read_to_string(authority).context("the authority")?;
        options["ca"] = authority.into();
        Self::start(format!("https://localhost:{port}"), options).await
    }

    async fn start(url: String, options: Value) -> Result<Self> {
        let NodeScript {
            child,
            commands,
            output,
        } = NodeScript::start("agent.mjs")?;
        let log = Arc::<Mutex<Vec<BrowserEvent>>>::default();
        let (grown, length) = watch::channel(0);
        let mut tasks = JoinSet::new();
        let comparison = Arc::<Comparison>::default();
        tasks.spawn(keep(
            output,
            Arc::clone(&log),
            grown,
            Arc::clone(&comparison),
        ));
        let browser = Self {
            url,
            commands: tokio::sync::Mutex::new(commands),
            log,
            length,
            requests: AtomicU64::new(0),
            comparison,
            _child: child,
            _tasks: tasks,
        };
        let command = json!({"do": "connect", "url": browser.url, "options": options});
        browser.command(command).await?;
        Ok(browser)
    }

    /// Allows events that are not as they are described: those of another release.
    pub fn of_another_release(&self) {
        self.comparison.allow_differences();
    }

    /// Returns the properties of events and answers that it was sent so far, see [`described::everything_described`].
    pub fn properties(&self) -> Seen {
        self.comparison.seen()
    }

    /// Subscribes and returns the server's answer.
    pub async fn subscribe(&self, device: &str) -> Result<Value> {
        self.ask("subscribe:device", json!(device)).await
    }

    /// Subscribes from a position on and returns the server's answer.
    pub async fn subscribe_since(&self, device: &str, epoch: &Value, seq: u64) -> Result<Value> {
        let since = json!({"deviceId": device, "since": {"epoch": epoch, "seq": seq}});
        self.ask("subscribe:device", since).await
    }

    /// Subscribes now, and again after every reconnection from the newest position that is whole. Returns the first answer of
    /// the server.
    pub async fn follow(&self, device: &str) -> Result<Value> {
        self.follow_by(Rule::Whole, device).await
    }

    /// As [`Self::follow`], with this rule.
    pub async fn follow_by(&self, rule: Rule, device: &str) -> Result<Value> {
        let from = self.seen_count();
        let rule = match rule {
            Rule::Whole => "whole",
            Rule::BeforeNewest => "before_newest",
        };
        self.command(json!({"do": "follow", "device": device, "rule": rule}))
            .await?;
        let answer = self
            .wait_after(from, &format!("the subscription of {device}"), |seen| {
                seen.what == "followed" && seen.name == device
            })
            .await?;
        Ok(answer.body)
    }

    /// Loses the connection right after the next event of this name and seq, and ignores everything after that event. Several
    /// cuts happen one after the other.
    pub async fn cut_within(&self, name: &str, seq: u64) -> Result<()> {
        self.command(json!({"do": "cutWithin", "name": name, "seq": seq}))
            .await
    }

    /// Returns whether [`Self::follow`] was called for this device.
    pub fn follows(&self, device: &str) -> bool {
        let is_it = |seen: &BrowserEvent| seen.what == "followed" && seen.name == device;
        self.log().iter().any(is_it)
    }

    /// Emits an event now, and again after every reconnection. Returns the first answer of the server.
    pub async fn keep(&self, name: &str, body: Value) -> Result<Value> {
        let from = self.seen_count();
        self.command(json!({"do": "keep", "name": name, "body": body}))
            .await?;
        let what = format!("the answer to {name} {body}");
        let answer = self
            .wait_after(from, &what, |seen| seen.what == "kept" && seen.name == name)
            .await?;
        Ok(answer.body)
    }

    /// Emits an event with an acknowledgement callback and returns the argument of the callback.
    pub async fn ask(&self, name: &str, body: Value) -> Result<Value> {
        let id = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        self.command(json!({"do": "ask", "id": id, "name": name, "body": body}))
            .await?;
        let what = format!("the answer to {name} {body}");
        let answer = self
            .wait_for(&what, |seen| seen.what == "ack" && seen.id == id)
            .await?;
        Ok(answer.body)
    }

    /// Emits an event without a callback, as the replaced front end does.
    pub async fn emit(&self, name: &str, body: Value) -> Result<()> {
        self.command(json!({"do": "emit", "name": name, "body": body}))
            .await
    }

    /// Disconnects, and waits until the connection is closed.
    pub async fn disconnect(&self) -> Result<()> {
        let from = self.seen_count();
        self.command(json!({"do": "disconnect"})).await?;
        self.wait_after(from, "the end of the connection", |seen| {
            seen.what == "disconnect"
        })
        .await?;
        Ok(())
    }

    /// Connects again after [`Self::disconnect`], and waits for the connection.
    pub async fn reconnect(&self) -> Result<()> {
        let from = self.seen_count();
        self.command(json!({"do": "reconnect"})).await?;
        self.wait_after(from, "the new connection", |seen| seen.what == "connect")
            .await?;
        Ok(())
    }

    /// Loses the connection as in a bad network, and waits until socket.io-client has made a new one.
    pub async fn lose_connection(&self) -> Result<()> {
        let from = self.seen_count();
        self.command(json!({"do": "cut"})).await?;
        self.wait_after(from, "the connection by itself", |seen| {
            seen.what == "connect"
        })
        .await?;
        Ok(())
    }

    /// Returns everything received so far, in the order of arrival.
    pub fn seen(&self) -> Vec<BrowserEvent> {
        self.log().clone()
    }

    /// Returns what was received after the first `from` entries.
    pub fn seen_after(&self, from: usize) -> Vec<BrowserEvent> {
        self.log().get(from..).unwrap_or_default().to_vec()
    }

    /// Returns the number of entries in that log, for [`Self::wait_after`].
    pub fn seen_count(&self) -> usize {
        self.log().len()
    }

    /// Returns the events of this name and device received so far, in the order of arrival.
    pub fn events(&self, name: &str, device: &str) -> Vec<Value> {
        let log = self.log();
        log.iter()
            .filter(|seen| seen.is_of(name, device))
            .map(|seen| seen.body.clone())
            .collect()
    }

    /// Waits for the first entry of the log for which `is_it` holds.
    pub async fn wait_for(
        &self,
        what: &str,
        is_it: impl Fn(&BrowserEvent) -> bool,
    ) -> Result<BrowserEvent> {
        self.wait_after(0, what, is_it).await
    }

    /// Waits for the first entry after the first `from` ones for which `is_it` holds.
    pub async fn wait_after(
        &self,
        from: usize,
        what: &str,
        is_it: impl Fn(&BrowserEvent) -> bool,
    ) -> Result<BrowserEvent> {
        let (_, found) = self.find_after(from, what, is_it).await?;
        Ok(found)
    }

    /// As [`Self::wait_after`], with the number of the entry in the log.
    pub async fn find_after(
        &self,
        from: usize,
        what: &str,
        is_it: impl Fn(&BrowserEvent) -> bool,
    ) -> Result<(usize, BrowserEvent)> {
        let mut length = self.length.clone();
        let search = async {
            let mut next = from;
            loop {
                self.comparison.check()?;
                let known = *length.borrow_and_update();
                let start = next.min(known);
                let index = self.log()[start..known].iter().position(&is_it);
                if let Some(index) = index {
                    let index = start + index;
                    return Ok((index, self.log()[index].clone()));
                }
                next = known.max(from);
                if length.changed().await.is_err() {
                    bail!("the browser's process ended");
                }
            }
        };
        match timeout(LATE, search).await {
            Ok(found) => found,
            Err(_) => Err(anyhow::anyhow!("it did not arrive")),
        }
        .with_context(|| {
            format!(
                "a browser waited for {what}; the end of its log:\n{}",
                self.tail()
            )
        })
    }

    /// Waits for the next event of this name and device after the first `from` entries of the log.
    pub async fn event_after(&self, from: usize, name: &str, device: &str) -> Result<Value> {
        let what = format!("{name} of {device}");
        let seen = self
            .wait_after(from, &what, |seen| seen.is_of(name, device))
            .await?;
        Ok(seen.body)
    }

    async fn command(&self, command: Value) -> Result<()> {
        let line = format!("{command}\n");
        let mut commands = self.commands.lock().await;
        commands
            .write_all(line.as_bytes())
            .await
            .context("sending a command to the browser")
    }

    fn log(&self) -> std::sync::MutexGuard<'_, Vec<BrowserEvent>> {
        self.log
            .lock()
            .expect("no thread panics while holding the lock")
    }

    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<String> = log[log.len().saturating_sub(12)..]
            .iter()
            .map(|seen| format!("  {} {} {}", seen.what, seen.name, seen.body))
            .collect();
        lines.join("\n")
    }
}

/// A test fails in which a browser was sent anything that is not described, also if it waited for nothing after that.
impl Drop for Browser {
    fn drop(&mut self) {
        if !std::thread::panicking()
            && let Err(difference) = self.comparison.check()
        {
            panic!("{difference}");
        }
    }
}

/// Compares what the server sent with its description; `None` for what it did not send.
fn compare(seen: &BrowserEvent) -> Option<Result<Seen, String>> {
    Some(match seen.what.as_str() {
        "event" | "again" => described::check_event(&seen.name, &seen.body),
        "ack" | "kept" => described::check_answer(&seen.name, &seen.body),
        "followed" => {
            // The client has added where it continues.
            let mut answer = seen.body.clone();
            if let Some(fields) = answer.as_object_mut() {
                fields.shift_remove("since");
            }
            described::check_answer("subscribe:device", &answer)
        }
        _ => return None,
    })
}

/// Returns the first alert of a `device:alerts` or `device:alerts:changed`.
pub fn only_alert(body: &Value) -> Result<&Value> {
    let alerts = body["alerts"].as_array().context("no alerts")?;
    ensure!(alerts.len() == 1, "expected one alert: {body}");
    Ok(&alerts[0])
}

async fn keep(
    output: ChildStdout,
    log: Arc<Mutex<Vec<BrowserEvent>>>,
    grown: watch::Sender<usize>,
    comparison: Arc<Comparison>,
) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let seen: BrowserEvent = serde_json::from_str(&line).unwrap_or_else(|err| BrowserEvent {
            what: "unreadable".to_owned(),
            name: err.to_string(),
            body: Value::String(line),
            arrived: Instant::now(),
            id: 0,
            at: Instant::now(),
        });
        if let Some(compared) = compare(&seen) {
            comparison.take(compared);
        }
        let length = {
            let mut log = log.lock().expect("no thread panics while holding the lock");
            log.push(seen);
            log.len()
        };
        grown.send_replace(length);
    }
}
