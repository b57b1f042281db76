//! The servers and services of `deploy/compose.yaml`, started on this machine without containers, with the secrets that
//! `deploy/make-secrets` makes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::eventually::eventually;
use tests::http::{Connection, Response};
use tests::manifests::{documents, list, run};
use tests::ports::Port;
use tests::repository;
use tests::server_process::ServerProcess;
use tests::tls;

use super::secrets::{Secrets, make_secrets};
use super::settings;
use super::text;

/// The started processes of some services.
struct Compose {
    // Stopped before their folder goes.
    processes: Vec<ServerProcess>,
    services: Value,
    /// What stands in a container, and what stands for it here.
    places: Vec<(String, String)>,
    secrets: Secrets,
    proxy: Port,
    // Kept until the end: nobody else gets these ports.
    _ports: Vec<Port>,
    data: tempfile::TempDir,
}

impl Compose {
    fn start() -> Result<Self> {
        let services = documents(&text("deploy/compose.yaml")?)?[0]["services"].clone();
        let secrets = Secrets::make()?;
        let data = tempfile::tempdir().context("a folder for data")?;
        let deploy = repository::root().join("deploy");
        let mut ports = Vec::new();
        let mut places = vec![(
            "/run/secrets/".to_owned(),
            format!("{}/", secrets.folder().display()),
        )];
        for address in [
            "redis:6379",
            "mosquitto:8883",
            "gateway-1:3002",
            "gateway-1:3004",
            "gateway-2:3002",
            "gateway-2:3004",
        ] {
            let port = Port::reserve()?;
            places.push((address.to_owned(), format!("localhost:{}", port.number())));
            ports.push(port);
        }
        places.push((
            "/etc/redis/redis.conf".to_owned(),
            deploy.join("redis.conf").display().to_string(),
        ));
        let mut compose = Self {
            processes: Vec::new(),
            services,
            places,
            secrets,
            proxy: Port::reserve()?,
            _ports: ports,
            data,
        };
        // The names of the containers are in these secrets.
        for name in ["redis-url-ingest", "redis-url-gateway"] {
            let url = compose.placed(&compose.secrets.text(name)?);
            fs::write(compose.secrets.file(name), url)?;
        }
        compose.start_redis()?;
        compose.start_mosquitto()?;
        compose.start_service("ingest-1", "ingest", &[])?;
        let of_gateway = [
            ("HTTP_PORT", compose.port("gateway-1:3002")?),
            ("OPS_PORT", compose.port("gateway-1:3004")?),
        ];
        compose.start_service("gateway-1", "gateway", &of_gateway)?;
        compose.start_service("simulator", "simulator", &[])?;
        compose.start_proxy()?;
        Ok(compose)
    }

    /// Replaces what stands in a container by what stands for it here.
    fn placed(&self, text: &str) -> String {
        let places = self.places.iter();
        places.fold(text.to_owned(), |text, (there, here)| {
            text.replace(there, here)
        })
    }

    fn port(&self, address: &str) -> Result<String> {
        let placed = self.placed(address);
        let (_, port) = placed.rsplit_once(':').context("a port")?;
        Ok(port.to_owned())
    }

    /// Fails if a service names a secret that compose does not give it.
    fn check_secrets(&self, service: &str, text: &str) -> Result<()> {
        let own = &self.services[service]["secrets"];
        for rest in text.split("/run/secrets/").skip(1) {
            let end = rest.find([' ', '"', '\n', ',']).unwrap_or(rest.len());
            let name = &rest[..end];
            ensure!(
                list(own).any(|own| own == name),
                "{service} is not given {name}"
            );
        }
        Ok(())
    }

    fn run(
        &mut self,
        name: &str,
        program: &Path,
        arguments: Vec<String>,
        variables: &[(String, String)],
    ) -> Result<()> {
        let folder = self.data.path();
        let process = ServerProcess::start_with(name, program, arguments, variables, folder)?;
        self.processes.push(process);
        Ok(())
    }

    fn start_redis(&mut self) -> Result<()> {
        let command = &self.services["redis"]["command"];
        self.check_secrets("redis", &command.to_string())?;
        let port = self.port("redis:6379")?;
        let folder = self.data.path().display().to_string();
        let words = list(command).skip(1).filter_map(Value::as_str);
        let words = words.map(|word| match word {
            "6379" => port.clone(),
            "/data" => folder.clone(),
            word => self.placed(word),
        });
        let words = words.collect();
        self.run("redis", Path::new("redis-server"), words, &[])
    }

    fn start_mosquitto(&mut self) -> Result<()> {
        let common = self.data.path().join("common");
        fs::create_dir(&common)?;
        let shipped = text("deploy/mosquitto.conf")?;
        fs::write(common.join("mosquitto.conf"), shipped)?;
        let own = text("deploy/mosquitto-tls.conf")?;
        self.check_secrets("mosquitto", &own)?;
        let users = repository::root().join("deploy/mosquitto-users.acl");
        let own = self.placed(&own);
        let own = own
            .replace("/mosquitto/config/common", &common.display().to_string())
            .replace(
                "/mosquitto/config/mosquitto-users.acl",
                &users.display().to_string(),
            )
            .replace(
                "/mosquitto/data/",
                &format!("{}/", self.data.path().display()),
            )
            .replace(
                "listener 8883",
                &format!("listener {} 127.0.0.1", self.port("mosquitto:8883")?),
            );
        let file = self.data.path().join("mosquitto-tls.conf");
        // In its container it is not root.
        fs::write(&file, format!("{own}\nuser root\n"))?;
        let words = vec!["-c".to_owned(), file.display().to_string()];
        self.run("mosquitto", Path::new("mosquitto"), words, &[])
    }

    fn start_service(
        &mut self,
        service: &str,
        program: &str,
        ports: &[(&str, String)],
    ) -> Result<()> {
        let shipped = self.services[service].clone();
        self.check_secrets(service, &shipped["environment"].to_string())?;
        let mut variables = Vec::new();
        for (name, value) in settings::of_map(&shipped["environment"])? {
            let value = self.placed(&value.context("no value")?);
            // There is no collector here, and the port of ingest is that of no test.
            let value = match name.as_str() {
                "OTEL_EXPORTER" => "none".to_owned(),
                "HTTP_PORT" => "0".to_owned(),
                _ => settings::in_image(&value)?,
            };
            let own = ports.iter().find(|(own, _)| *own == name);
            variables.push((name, own.map_or(value, |(_, port)| port.clone())));
        }
        if program != "simulator" {
            variables.push(("LISTEN_ADDRESS".to_owned(), "127.0.0.1".to_owned()));
        }
        let words = list(&shipped["command"]).filter_map(Value::as_str);
        let words = words.map(str::to_owned).collect();
        self.run(service, &repository::binary(program)?, words, &variables)
    }

    fn start_proxy(&mut self) -> Result<()> {
        let shipped = text("deploy/haproxy.cfg")?;
        self.check_secrets("proxy", &shipped)?;
        let listen = shipped
            .lines()
            .find_map(|line| line.trim().strip_prefix("presetenv LISTEN "));
        let listen = self.placed(listen.context("no LISTEN")?);
        let listen = listen.replace(":8443", &format!("127.0.0.1:{}", self.proxy.number()));
        let mut variables = vec![("LISTEN".to_owned(), listen)];
        for number in [1, 2] {
            let main = self.port(&format!("gateway-{number}:3002"))?;
            let ops = self.port(&format!("gateway-{number}:3004"))?;
            variables.push((format!("GATEWAY_{number}"), format!("127.0.0.1:{main}")));
            variables.push((format!("GATEWAY_{number}_OPS"), ops));
        }
        let lines = variables.iter();
        let lines = lines.map(|(name, value)| format!("    setenv {name} {value}"));
        let lines: Vec<String> = lines.collect();
        let file = self.data.path().join("addresses.cfg");
        fs::write(&file, format!("global\n{}\n", lines.join("\n")))?;
        let shipped = repository::root().join("deploy/haproxy.cfg");
        let words = ["-db", "-f", &file.display().to_string(), "-f"].map(str::to_owned);
        let words = [&words[..], &[shipped.display().to_string()]].concat();
        self.run("proxy", Path::new("haproxy"), words, &[])
    }

    fn authority(&self) -> PathBuf {
        self.secrets.file("ca.pem")
    }

    /// Sends a GET request to the proxy over HTTPS.
    async fn get(&self, path: &str, token: Option<&str>) -> Result<Response> {
        let stream = tls::connect(self.proxy.number(), &self.authority()).await?;
        let mut connection = Connection::over(stream, self.proxy.number()).await?;
        let authorization = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<(&str, &str)> = authorization
            .iter()
            .map(|value| ("authorization", value.as_str()))
            .collect();
        connection.send("GET", path, &headers, b"").await
    }

    /// Mints a token as the instructions describe.
    fn mint(&self) -> Result<String> {
        let environment = &self.services["gateway-1"]["environment"];
        let mut command = std::process::Command::new(repository::binary("gateway")?);
        command
            .args(["token", "mint", "--subject=viewer-1", "--signing-key-file"])
            .arg(self.secrets.file("token.key"));
        for name in ["TOKEN_ISSUER", "TOKEN_AUDIENCE"] {
            command.env(name, environment[name].as_str().context("no claim")?);
        }
        Ok(String::from_utf8(run(&mut command)?.stdout)?
            .trim()
            .to_owned())
    }

    /// Revokes every token of the subject, with the settings of a gateway.
    fn revoke(&self) -> Result<()> {
        let environment = &self.services["gateway-1"]["environment"];
        let mut command = std::process::Command::new(repository::binary("gateway")?);
        command.args(["token", "revoke", "--subject=viewer-1"]);
        for name in ["REDIS_URL_FILE", "REDIS_CA_FILE"] {
            let value = environment[name].as_str().context("no Redis")?;
            command.env(name, self.placed(value));
        }
        run(&mut command)?;
        Ok(())
    }

    /// Returns what the processes printed.
    fn output(&self) -> String {
        let outputs = self
            .processes
            .iter()
            .map(|process| format!("--- {}\n{}", process.name(), process.output()));
        outputs.collect::<Vec<_>>().join("\n")
    }
}

async fn a_reading_reaches(compose: &Compose) -> Result<()> {
    let token = compose.mint()?;
    let device = eventually("a detector at the proxy, over HTTPS", async || {
        let listed = compose.get("/api/devices", Some(&token)).await?;
        let listed = listed.expect(200)?;
        let first = listed["devices"][0]["device_id"].as_str();
        Ok(first.context("no detector yet")?.to_owned())
    })
    .await?;
    let options = json!({"transports": ["websocket"], "auth": {"token": token}});
    let proxy = compose.proxy.number();
    let browser = Browser::open_over_tls(proxy, options, &compose.authority()).await?;
    browser
        .wait_for("the connection", |seen| seen.what == "connect")
        .await?;
    let answer = browser.subscribe(&device).await?;
    ensure!(answer["ok"] == true, "{answer}");
    browser.event_after(0, "device:data", &device).await?;

    // Anybody may load the pages. They have no data.
    let page = compose.get("/ui/", None).await?;
    ensure!(page.status == 200, "{page:?}");
    let refused = compose.get("/api/devices", None).await?;
    ensure!(refused.status == 401, "{refused:?}");
    let refused = Browser::open_over_tls(
        proxy,
        json!({"transports": ["websocket"], "reconnection": false}),
        &compose.authority(),
    )
    .await?;
    refused
        .wait_for("the refusal", |seen| seen.what == "connect_error")
        .await?;

    compose.revoke()?;
    browser
        .wait_for("the end of its connection", |seen| {
            seen.what == "disconnect"
        })
        .await?;
    let refused = compose.get("/api/devices", Some(&token)).await?;
    ensure!(refused.status == 401, "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn a_reading_reaches_whoever_has_a_token_and_every_connection_is_encrypted() -> Result<()> {
    let mut compose = Compose::start()?;
    let outcome = a_reading_reaches(&compose).await;
    outcome.with_context(|| compose.output())?;
    for process in &mut compose.processes {
        process.check_alive()?;
    }
    Ok(())
}

#[test]
fn secrets_are_made_once_and_again_only_where_they_are_missing() -> Result<()> {
    let secrets = Secrets::make()?;
    let read = || -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let mut files = Vec::new();
        for file in fs::read_dir(secrets.folder())? {
            let path = file?.path();
            files.push((path.clone(), fs::read(&path)?));
        }
        files.sort();
        Ok(files)
    };
    let before = read()?;
    assert_eq!(make_secrets(secrets.folder())?, "");
    assert_eq!(read()?, before);

    // Every file that compose names is there.
    let compose = documents(&text("deploy/compose.yaml")?)?;
    let named = compose[0]["secrets"].as_object().context("no secrets")?;
    for (name, secret) in named {
        assert_eq!(secret["file"], format!("./secrets/{name}"));
        ensure!(secrets.file(name).is_file(), "{name} is not made");
    }
    for kept in ["ca.key", "token.key"] {
        ensure!(!named.contains_key(kept), "a container is given {kept}");
    }

    // As a new key for tokens is made.
    for name in ["token.key", "token.pub"] {
        fs::remove_file(secrets.file(name))?;
    }
    let made = make_secrets(secrets.folder())?;
    assert_eq!(made, "made token.key, token.pub\n");
    let changed: Vec<String> = read()?
        .into_iter()
        .filter(|file| !before.contains(file))
        .filter_map(|(path, _)| Some(path.file_name()?.to_str()?.to_owned()))
        .collect();
    assert_eq!(changed, ["token.key", "token.pub"]);
    Ok(())
}
