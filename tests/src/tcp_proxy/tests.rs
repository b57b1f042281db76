use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::TcpProxy;
use crate::eventually::{LATE, eventually};

/// A server that answers its own name and the received bytes, and passes the bytes to the test.
struct Echo {
    port: u16,
    received: Receiver<Vec<u8>>,
    _tasks: JoinSet<()>,
}

impl Echo {
    async fn start(name: u8) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let (pass, received) = mpsc::channel(64);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let pass = pass.clone();
                connections.spawn(async move {
                    let mut buffer = vec![0; 256];
                    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                        let mut answer = vec![name];
                        answer.extend_from_slice(&buffer[..length]);
                        pass.send(buffer[..length].to_vec()).await.ok();
                        if stream.write_all(&answer).await.is_err() {
                            return;
                        }
                    }
                    pass.send(Vec::new()).await.ok();
                });
            }
        });
        Ok(Self {
            port,
            received,
            _tasks: tasks,
        })
    }

    async fn receives(&mut self) -> Result<Vec<u8>> {
        Ok(timeout(LATE, self.received.recv())
            .await?
            .unwrap_or_default())
    }
}

async fn connect(proxy: &TcpProxy) -> Result<TcpStream> {
    Ok(TcpStream::connect(("127.0.0.1", proxy.port())).await?)
}

/// Sends this and returns the answer.
async fn ask(stream: &mut TcpStream, text: &[u8]) -> Result<Vec<u8>> {
    stream.write_all(text).await?;
    let mut answer = vec![0; text.len() + 1];
    timeout(LATE, stream.read_exact(&mut answer)).await??;
    Ok(answer)
}

/// Returns whether the other side has ended the connection.
async fn has_ended(stream: &mut TcpStream) -> Result<bool> {
    let read = timeout(LATE, stream.read(&mut [0; 8])).await?;
    Ok(matches!(read, Ok(0) | Err(_)))
}

/// Fails if there is something to read. To be called when anything sent before would have arrived.
fn is_silent(stream: &TcpStream) -> Result<()> {
    let read = stream.try_read(&mut [0; 8]);
    ensure!(
        matches!(&read, Err(err) if err.kind() == std::io::ErrorKind::WouldBlock),
        "{read:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_cut_closes_open_and_new_connections_until_it_is_healed() -> Result<()> {
    let server = Echo::start(b'a').await?;
    let proxy = TcpProxy::start(server.port).await?;
    let mut old = connect(&proxy).await?;
    assert_eq!(ask(&mut old, b"1").await?, b"a1");
    proxy.cut();
    assert!(has_ended(&mut old).await?);
    let mut refused = connect(&proxy).await?;
    assert!(has_ended(&mut refused).await?);
    proxy.heal();
    let mut new = connect(&proxy).await?;
    assert_eq!(ask(&mut new, b"2").await?, b"a2");
    // However short the cut is, it closes every connection.
    proxy.cut();
    proxy.heal();
    assert!(has_ended(&mut new).await?);
    let mut next = connect(&proxy).await?;
    assert_eq!(ask(&mut next, b"3").await?, b"a3");
    proxy.reset();
    assert!(has_ended(&mut next).await?);
    Ok(())
}

#[tokio::test]
async fn delayed_bytes_arrive_late_and_in_order() -> Result<()> {
    const LATER: Duration = Duration::from_millis(80);
    let server = Echo::start(b'a').await?;
    let proxy = TcpProxy::start(server.port).await?;
    let mut stream = connect(&proxy).await?;
    ask(&mut stream, b"1").await?;
    proxy.delay(LATER);
    let started = Instant::now();
    assert_eq!(ask(&mut stream, b"2").await?, b"a2");
    assert!(started.elapsed() >= 2 * LATER, "{:?}", started.elapsed());
    // Bytes sent without a delay do not overtake bytes sent with one.
    stream.write_all(b"3").await?;
    // Time for the proxy to read it. On a machine that is too slow for that, the order is right anyway.
    sleep(LATER / 4).await;
    proxy.delay(Duration::ZERO);
    stream.write_all(b"4").await?;
    let mut seen = Vec::new();
    while seen.last() != Some(&b'4') {
        seen.push(timeout(LATE, stream.read_u8()).await??);
    }
    seen.retain(u8::is_ascii_digit);
    assert_eq!(seen, b"34");
    Ok(())
}

#[tokio::test]
async fn in_a_black_hole_connections_stay_open_and_nothing_passes() -> Result<()> {
    let mut server = Echo::start(b'a').await?;
    let proxy = TcpProxy::start(server.port).await?;
    let mut old = connect(&proxy).await?;
    ask(&mut old, b"1").await?;
    assert_eq!(server.receives().await?, b"1");
    proxy.black_hole();
    old.write_all(b"2").await?;
    let mut new = connect(&proxy).await?;
    new.write_all(b"3").await?;
    eventually("the second connection is accepted", async || {
        ensure!(proxy.connections() == 2);
        Ok(())
    })
    .await?;
    proxy.heal();
    // What passes now was sent after what did not pass.
    let mut healed = connect(&proxy).await?;
    assert_eq!(ask(&mut healed, b"4").await?, b"a4");
    assert_eq!(server.receives().await?, b"4");
    old.write_all(b"5").await?;
    assert_eq!(ask(&mut healed, b"6").await?, b"a6");
    assert_eq!(server.receives().await?, b"6");
    is_silent(&old)?;
    is_silent(&new)?;
    assert_eq!(proxy.connections(), 3);
    // Its client has disconnected, and the server does not notice.
    drop(old);
    assert_eq!(ask(&mut healed, b"7").await?, b"a7");
    assert_eq!(server.receives().await?, b"7");
    Ok(())
}

#[tokio::test]
async fn half_open_lets_requests_pass_and_no_answers() -> Result<()> {
    let mut server = Echo::start(b'a').await?;
    let proxy = TcpProxy::start(server.port).await?;
    let mut old = connect(&proxy).await?;
    ask(&mut old, b"1").await?;
    server.receives().await?;
    proxy.half_open();
    old.write_all(b"2").await?;
    assert_eq!(server.receives().await?, b"2");
    let mut new = connect(&proxy).await?;
    new.write_all(b"3").await?;
    assert_eq!(server.receives().await?, b"3");
    proxy.heal();
    let mut healed = connect(&proxy).await?;
    assert_eq!(ask(&mut healed, b"4").await?, b"a4");
    server.receives().await?;
    is_silent(&old)?;
    is_silent(&new)?;
    // The end of a connection passes like everything the client sends.
    drop(new);
    assert_eq!(server.receives().await?, b"");
    Ok(())
}

#[tokio::test]
async fn a_mute_client_is_still_answered() -> Result<()> {
    let mut server = Echo::start(b'a').await?;
    let proxy = TcpProxy::start(server.port).await?;
    let mut old = connect(&proxy).await?;
    proxy.delay(Duration::from_millis(50));
    old.write_all(b"1").await?;
    assert_eq!(server.receives().await?, b"1");
    // The answer is on its way.
    proxy.mute();
    proxy.delay(Duration::ZERO);
    old.write_all(b"2").await?;
    let mut answer = [0; 2];
    timeout(LATE, old.read_exact(&mut answer)).await??;
    assert_eq!(&answer, b"a1");
    proxy.heal();
    let mut healed = connect(&proxy).await?;
    assert_eq!(ask(&mut healed, b"3").await?, b"a3");
    assert_eq!(server.receives().await?, b"3");
    is_silent(&old)
}

#[tokio::test]
async fn after_a_retarget_new_connections_reach_the_other_server() -> Result<()> {
    let first = Echo::start(b'a').await?;
    let second = Echo::start(b'b').await?;
    let proxy = TcpProxy::start(first.port).await?;
    let mut old = connect(&proxy).await?;
    ask(&mut old, b"1").await?;
    proxy.record();
    proxy.retarget(second.port);
    let mut new = connect(&proxy).await?;
    assert_eq!(ask(&mut new, b"2").await?, b"b2");
    assert_eq!(ask(&mut old, b"3").await?, b"a3");
    let mut recorded = proxy.recorded();
    recorded.sort();
    assert_eq!(recorded, [b"a3", b"b2"]);
    Ok(())
}
