//! A gateway with as many connections as it may have refuses further ones, and still answers probes.

use anyhow::{Result, ensure};
use tests::eventually::eventually;
use tests::http::{self, Connection};
use tests::stack::Plan;
use tokio::net::TcpStream;

const CONNECTIONS: usize = 4;

#[tokio::test]
async fn a_full_gateway_answers_probes_and_refuses_everything_else() -> Result<()> {
    let flags = format!("--max-connections={CONNECTIONS} --allowed-origins=http://localhost:5173");
    let plan = Plan::default().gateway_flags(&flags);
    let stack = plan.start().await?;
    let gateway = &stack.gateways[0];
    // A connection counts for certain once it was answered: earlier ones may not be closed yet.
    let mut idle = Vec::new();
    while idle.len() < CONNECTIONS {
        idle.push(
            eventually("a connection is free", async || {
                open_connection(gateway.port()).await
            })
            .await?,
        );
    }
    let refusal = gateway.get("/api/devices").await?.expect(503)?;
    ensure!(refusal["error_code"] == "full", "{refusal}");
    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = gateway.get(path).await?;
        ensure!(answer.status == 200, "{path}: {answer:?}");
    }
    let handshake = "/socket.io/?EIO=4&transport=polling";
    gateway.get(handshake).await?.expect(503)?;
    // A poll of an open connection is not a handshake.
    let poll = format!("{handshake}&sid=AAAAAAAAAAAAAAAA");
    gateway.get(&poll).await?.expect(503)?;
    // Without the CORS header a browser would not show the error.
    let origin = "http://localhost:5173";
    let headers = [("origin", origin)];
    for path in ["/api/devices", &poll] {
        let answer = http::send(gateway.port(), "GET", path, &headers, b"").await?;
        let echoed = answer.header("access-control-allow-origin");
        ensure!(answer.status == 503 && echoed == origin, "{answer:?}");
    }
    let metrics = gateway.get("/metrics").await?;
    let metrics = String::from_utf8(metrics.body.to_vec())?;
    let refused = r#"gateway_handshakes_refused_total{reason="full"} 1"#;
    ensure!(metrics.lines().any(|line| line == refused), "{metrics}");
    // `/api/devices` was refused before routing.
    let answered = r#"http_response_status_code="503""#;
    ensure!(metrics.contains(answered), "{metrics}");

    idle.pop();
    eventually("a connection is free", async || {
        gateway.get("/api/devices").await?.expect(200)
    })
    .await?;
    stack.pass()
}

/// Opens a connection that was answered and stays open.
async fn open_connection(port: u16) -> Result<Connection> {
    let mut connection = Connection::open(port).await?;
    let answer = connection.send("GET", "/api/devices", &[], b"").await?;
    answer.expect(200)?;
    Ok(connection)
}

/// Connections that are accepted beyond the limit, and then some that wait in the kernel's queue.
const IDLE: usize = 2_500;

#[tokio::test]
async fn idle_connections_do_not_keep_probes_waiting() -> Result<()> {
    let flags = format!("--max-connections={CONNECTIONS}");
    let plan = Plan::default().gateway_flags(&flags);
    let stack = plan.start().await?;
    let idle = hold_idle_connections(stack.gateways[0].port()).await?;
    // A gateway that lets each of them wait for its deadline answers only minutes later.
    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = stack.gateways[0].get(path).await?;
        ensure!(answer.status == 200, "{path}: {answer:?}");
    }
    ensure!(idle.len() == IDLE, "they are held until here");
    stack.pass()
}

#[tokio::test]
async fn a_port_for_operators_is_free_whatever_happens_on_the_main_port() -> Result<()> {
    let flags = format!("--max-connections={CONNECTIONS}");
    let plan = Plan::default().operator_port().gateway_flags(&flags);
    let stack = plan.start().await?;
    let gateway = &stack.gateways[0];
    let on_main = hold_idle_connections(gateway.port()).await?;
    let on_operators = hold_idle_connections(gateway.operator_port()).await?;
    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = gateway.get(path).await?;
        ensure!(answer.status == 200, "{path}: {answer:?}");
    }
    stack.retire("OTSM-0001", "").await?.expect(404)?;
    ensure!(
        on_main.len() == on_operators.len(),
        "they are held until here"
    );
    stack.pass()
}

/// Opens connections that send nothing. The kernel may refuse some for a while when its queue is full.
async fn hold_idle_connections(port: u16) -> Result<Vec<TcpStream>> {
    let mut idle = Vec::new();
    while idle.len() < IDLE {
        idle.push(TcpStream::connect(("127.0.0.1", port)).await?);
    }
    Ok(idle)
}
