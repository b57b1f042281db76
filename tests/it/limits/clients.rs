//! The limits of what clients watch and send, and of all connections.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use tests::browser::{Browser, Transport};
use tests::eventually::eventually;
use tests::http::{self, Connection};
use tests::report;
use tests::websocket::WebSocket;
use tokio::net::TcpSocket;

use super::{BAD, Good, POLLING, WEBSOCKET, is_close};

#[tokio::test]
async fn a_client_sends_so_many_packets_per_second() -> Result<()> {
    for dry in [false, true] {
        let flags = "--packet-rate=1 --subscriptions-per-client=20";
        let mut good = Good::start(flags, "packet-rate", dry).await?;
        let mut bad = WebSocket::open(good.port(), WEBSOCKET).await?;
        bad.json("0").await?;
        bad.send("40").await?;
        bad.json("40").await?;
        // Pongs. The burst has 50 packets.
        let mut sent = 0;
        for _ in 0..10 {
            for _ in 0..20 {
                sent += usize::from(bad.send("3").await.is_ok());
            }
            good.receives_a_reading().await?;
        }
        if dry {
            bad.send(r#"421["subscribe:device","OTSM-0001"]"#).await?;
            while !bad.text().await?.starts_with("431") {}
        } else {
            bad.until_end().await?;
        }
        let counted = good.ends("packet_rate", dry).await?;
        // A client that came back would have a full burst again.
        ensure!(counted < if dry { 4.5 } else { 1.5 }, "{counted}");
        report::line(&format!(
            "limits: a client sent {sent} packets, 1 per second allowed, dry run {dry}: {counted} disconnections counted"
        ));
    }
    Ok(())
}

#[tokio::test]
async fn a_client_has_so_many_subscriptions() -> Result<()> {
    const MAX: usize = 5;
    const TRIED: usize = 12;
    for dry in [false, true] {
        let flags = format!("--subscriptions-per-client={MAX}");
        let mut good = Good::start(&flags, "subscriptions-per-client", dry).await?;
        let bad = Browser::connect(good.port(), Transport::Polling).await?;
        let mut refused = 0;
        for number in 0..TRIED {
            let serial = format!("OTSM-1{number:03}");
            let answer = bad.subscribe(&serial).await?;
            refused += usize::from(answer["error"]["code"] == "limit");
            good.receives_a_reading().await?;
        }
        if dry {
            // What is admitted beyond the limit is served.
            let last = format!("OTSM-1{:03}", TRIED - 1);
            good.stack.device(&last).send(7).await?;
            bad.event_after(0, "device:data", &last).await?;
        }
        let counted = good.ends("subscriptions_per_client", dry).await?;
        ensure!(is_close(counted, TRIED - MAX), "{counted}");
        ensure!(refused == if dry { 0 } else { TRIED - MAX }, "{refused}");
        report::line(&format!(
            "limits: {TRIED} subscriptions of a client, {MAX} allowed, dry run {dry}: {counted} counted, {refused} refused"
        ));
    }
    Ok(())
}

#[tokio::test]
async fn a_replica_and_an_address_watch_so_many_devices() -> Result<()> {
    const TRIED: usize = 9;
    for (setting, metric, flags, beyond) in [
        (
            "max-watched",
            "max_watched",
            "--max-watched=4 --watched-per-address=100",
            TRIED - 3,
        ),
        (
            "watched-per-address",
            "watched_per_address",
            "--watched-per-address=4",
            TRIED - 3,
        ),
        (
            "max-unlisted",
            "max_unlisted",
            "--max-unlisted=8",
            TRIED - 2,
        ),
    ] {
        for dry in [false, true] {
            let mut good = Good::start(flags, setting, dry).await?;
            let bad = Browser::connect(good.port(), Transport::WebSocket).await?;
            let mut refused = 0;
            for number in 0..TRIED {
                let serial = format!("OTSM-1{number:03}");
                if metric != "max_unlisted" {
                    good.stack.device(&serial).send(1).await?;
                    good.stack.shows(&serial, 1).await?;
                }
                let answer = bad.subscribe(&serial).await?;
                refused += usize::from(answer["error"]["code"] == "limit");
                good.receives_a_reading().await?;
            }
            if dry {
                let last = format!("OTSM-1{:03}", TRIED - 1);
                let from = bad.seen_count();
                good.stack.device(&last).send(7).await?;
                bad.event_after(from, "device:data", &last).await?;
            }
            let counted = good.ends(metric, dry).await?;
            ensure!(is_close(counted, beyond), "{metric}: {counted}");
            ensure!(
                refused == if dry { 0 } else { beyond },
                "{metric}: {refused}"
            );
            report::line(&format!(
                "limits: {setting}, {TRIED} devices, dry run {dry}: {counted} counted, {refused} refused"
            ));
        }
    }
    Ok(())
}

#[tokio::test]
async fn one_address_cannot_take_every_connection() -> Result<()> {
    const MAX: usize = 100;
    const TRIED: usize = 400;
    for dry in [false, true] {
        let flags = format!("--max-connections=300 --max-tcp-connections-per-address={MAX}");
        let mut good = Good::start(&flags, "max-tcp-connections-per-address", dry).await?;
        let port = good.port();
        let mut idle = Vec::new();
        for _ in 0..TRIED {
            let socket = TcpSocket::new_v4()?;
            socket.bind((BAD, 0).into())?;
            idle.push(socket.connect((Ipv4Addr::LOCALHOST, port).into()).await?);
        }
        eventually("every connection was accepted", async || {
            let (refused, tried) = good.counts("max_tcp_connections_per_address").await?;
            ensure!(is_close(refused + tried, TRIED - MAX), "{refused} {tried}");
            Ok(())
        })
        .await?;
        good.receives_a_reading().await?;
        if !dry {
            let refusal = eventually("one more gets an answer", async || {
                http::send_from(BAD, port, "/api/devices").await
            })
            .await?;
            let refusal = refusal.expect(503)?;
            ensure!(refusal["error_code"] == "full", "{refusal}");
            // All places but those of one address are free.
            good.stack.get("/api/devices").await?.expect(200)?;
            Browser::connect(port, Transport::Upgrade).await?;
        }
        ensure!(idle.len() == TRIED, "they are held until here");
        let counted = good.ends("max_tcp_connections_per_address", dry).await?;
        report::line(&format!(
            "limits: {TRIED} idle connections of one address, {MAX} allowed, dry run {dry}: {counted} counted"
        ));
    }
    Ok(())
}

#[tokio::test]
async fn a_replica_has_so_many_connections() -> Result<()> {
    const MAX: usize = 6;
    const TRIED: usize = 15;
    for dry in [false, true] {
        let flags = format!("--max-connections={MAX} --connect-timeout=10m --ping-timeout=10m");
        let good = Good::start(&flags, "max-connections", dry).await?;
        let port = good.port();
        let mut held = Vec::new();
        // The good client has one. Requests of this test that have ended may still have theirs.
        while held.len() < MAX - 1 {
            let opened = eventually("a connection is free", async || {
                let mut connection = Connection::open(port).await?;
                connection
                    .send("GET", "/config", &[], b"")
                    .await?
                    .expect(200)?;
                anyhow::Ok(connection)
            })
            .await?;
            held.push(opened);
        }
        let (before_refused, before_tried) = good.counts("max_connections").await?;
        let mut refused = 0;
        let mut excess = Vec::new();
        for number in 0..TRIED {
            let mut connection = Connection::open(port).await?;
            let path = if number % 2 == 0 { "/config" } else { POLLING };
            let answer = connection.send("GET", path, &[], b"").await?;
            ensure!([200, 503].contains(&answer.status), "{answer:?}");
            refused += usize::from(answer.status == 503);
            excess.push(connection);
        }
        let (all_refused, all_tried) = good.counts("max_connections").await?;
        let counted = if dry {
            all_tried - before_tried
        } else {
            all_refused - before_refused
        };
        ensure!(refused == if dry { 0 } else { TRIED }, "{refused}");
        ensure!(is_close(counted, TRIED), "{counted}");
        ensure!(http::send(port, "GET", "/livez", &[], b"").await?.status == 200);
        drop((held, excess));
        report::line(&format!(
            "limits: {TRIED} connections beyond {MAX}, dry run {dry}: {counted} counted, {refused} refused"
        ));
        eventually("every connection has ended", async || {
            good.stack.get("/config").await?.expect(200)
        })
        .await?;
        good.ends("max_connections", dry).await?;
    }
    Ok(())
}
