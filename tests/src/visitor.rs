//! What a browser does for somebody who signs in: it keeps cookies and follows redirects when a test asks for it. What the cookies may be sent
//! to is not checked.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use url::Url;

use crate::http::{self, Response};

/// One browser.
#[derive(Clone, Debug, Default)]
pub struct Visitor {
    cookies: BTreeMap<String, String>,
}

impl Visitor {
    /// Sends a request with the cookies, and keeps those of the answer.
    pub async fn send(
        &mut self,
        port: u16,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response> {
        let cookies = self.cookie_header();
        let mut all = headers.to_vec();
        if !cookies.is_empty() {
            all.push(("cookie", &cookies));
        }
        let answer = http::send(port, method, path, &all, b"").await?;
        for value in answer.headers.get_all("set-cookie") {
            self.keep(value.to_str()?)?;
        }
        Ok(answer)
    }

    /// Opens an address of a gateway.
    pub async fn get(&mut self, port: u16, path: &str) -> Result<Response> {
        self.send(port, "GET", path, &[]).await
    }

    /// Returns the value of the header `Cookie`.
    #[must_use]
    pub fn cookie_header(&self) -> String {
        let pairs = self.cookies.iter();
        let pairs: Vec<String> = pairs
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join("; ")
    }

    /// Returns the names of the cookies.
    #[must_use]
    pub fn cookie_names(&self) -> Vec<&str> {
        self.cookies.keys().map(String::as_str).collect()
    }

    /// Forgets every cookie.
    pub fn forget_cookies(&mut self) {
        self.cookies.clear();
    }

    /// Begins to sign in at a gateway, does so at the provider, and returns the path to which the provider sends the browser back.
    pub async fn come_back_from_provider(&mut self, gateway: u16, back: &str) -> Result<String> {
        let path = format!("/auth/login?return={back}");
        let begun = self.get(gateway, &path).await?;
        ensure!(begun.status == 303, "{begun:?}");
        let at_provider = Url::parse(begun.header("location"))?;
        let port = at_provider.port().context("the port of the provider")?;
        let signed_in = http::send(port, "GET", &path_of(&at_provider), &[], b"").await?;
        ensure!(signed_in.status == 302, "{signed_in:?}");
        let callback = Url::parse(signed_in.header("location"))?;
        Ok(path_of(&callback))
    }

    /// Signs in at a gateway.
    pub async fn sign_in(&mut self, gateway: u16) -> Result<()> {
        let callback = self.come_back_from_provider(gateway, "/").await?;
        let answer = self.get(gateway, &callback).await?;
        ensure!(answer.status == 303, "{answer:?}");
        Ok(())
    }

    fn keep(&mut self, set_cookie: &str) -> Result<()> {
        let (pair, attributes) = set_cookie.split_once(';').unwrap_or((set_cookie, ""));
        let (name, value) = pair.split_once('=').context("a cookie")?;
        if attributes.contains("Max-Age=0;") {
            self.cookies.remove(name);
        } else {
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        Ok(())
    }
}

fn path_of(url: &Url) -> String {
    format!("{}?{}", url.path(), url.query().unwrap_or_default())
}
