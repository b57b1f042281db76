//! Who a client is.

use shared::clock::Time;

use super::anonymous::Anonymous;
use super::permission::{Permission, Verb};

/// Who a client is, and what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// `None` for an anonymous client.
    pub(super) token: Option<TokenFacts>,
    permission: Permission,
    /// The holder has signed in with a browser, and the token is a cookie of ours.
    is_web_session: bool,
}

/// What a token says about its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenFacts {
    /// Claim `jti`: the id of the token.
    pub(crate) id: Option<Box<str>>,
    /// Claim `sub`.
    pub(crate) subject: Box<str>,
    /// Claim `name`: what people call the holder.
    pub(crate) name: Option<Box<str>>,
    /// Claim `exp`.
    pub(crate) expires: Time,
}

impl Identity {
    pub(super) fn anonymous(allowed: Anonymous) -> Self {
        let verbs = match allowed {
            Anonymous::None => vec![],
            Anonymous::Read => vec![Verb::Read],
            Anonymous::All => vec![Verb::Read, Verb::Ack],
        };
        Self {
            token: None,
            permission: Permission::with_all_devices(verbs),
            is_web_session: false,
        }
    }

    pub(super) fn of_token(token: TokenFacts, permission: Permission) -> Self {
        Self {
            token: Some(token),
            permission,
            is_web_session: false,
        }
    }

    pub(super) fn of_web_session(token: TokenFacts, permission: Permission) -> Self {
        Self {
            is_web_session: true,
            ..Self::of_token(token, permission)
        }
    }

    pub(crate) fn permission(&self) -> &Permission {
        &self.permission
    }

    /// Returns when it expires; `None` if it never does.
    pub(crate) fn expires(&self) -> Option<Time> {
        self.token.as_ref().map(|token| token.expires)
    }

    /// Returns the subject of its token; `None` for an anonymous client.
    pub(crate) fn subject(&self) -> Option<&str> {
        self.token.as_ref().map(|token| &*token.subject)
    }

    /// Returns the name that its token has.
    pub(crate) fn name(&self) -> Option<&str> {
        self.token.as_ref()?.name.as_deref()
    }

    /// Returns the id of its session, if it has signed in with a browser.
    pub(crate) fn web_session(&self) -> Option<&str> {
        let token = self.token.as_ref().filter(|_| self.is_web_session)?;
        token.id.as_deref()
    }

    /// Returns the name that others are shown; `None` for an anonymous client, which may name itself.
    pub(crate) fn shown_name(&self) -> Option<&str> {
        let token = self.token.as_ref()?;
        Some(token.name.as_deref().unwrap_or(&token.subject))
    }
}
