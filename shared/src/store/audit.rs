//! What people did and what was refused: a stream that is only appended to, and trimmed at its old end.

use serde::{Deserialize, Serialize};

use super::codec::json;
use super::reply::entries;
use super::{Store, StoreError};
use crate::clock::Time;
use crate::keys::{AUDIT, AUDIT_REFUSED, AUDIT_SESSIONS, MAX_AUDIT};

/// How many entries are searched for one that may have been written. Others write few while Redis answers nobody.
const SEARCHED: usize = 256;

/// One entry. Absent fields are unknown, or do not apply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditEntry {
    /// Says which entries are the same, for whoever copies the trail; empty in entries of earlier releases.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Server time at which it was written; set when it is stored.
    pub at: Time,
    /// What happened: `acknowledged`, `retired`, `configured`, `refused`, `revoked`, `revocation_lifted`, `signed_in`, `signed_out` or
    /// `started`.
    pub action: String,
    /// Claim `sub` of the token of whoever did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The name that others are shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Network address of the client; of an IPv6 client its /64 network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The device that it was about, as the client wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// Id of the alarm or of the session, or what was revoked, asked for or set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What was written beside an acknowledgement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Entries of refusals that were left out before this one, because there were too many.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out: u64,
    /// Id of the trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Which part of the trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditPart {
    /// What people did.
    Done,
    /// What was refused.
    Refused,
    /// Who signed in and out.
    Sessions,
}

impl AuditPart {
    const fn key(self) -> &'static str {
        match self {
            Self::Done => AUDIT,
            Self::Refused => AUDIT_REFUSED,
            Self::Sessions => AUDIT_SESSIONS,
        }
    }
}

/// Some entries, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<AuditEntry>,
    /// What to ask for to get older ones; `None` if there are none.
    pub before: Option<String>,
}

impl Store {
    /// Appends an entry.
    pub async fn write_audit(&self, part: AuditPart, entry: &AuditEntry) -> Result<(), StoreError> {
        let entry = AuditEntry {
            at: self.connector.now(),
            ..entry.clone()
        };
        let answer = self.run(|_, pipe| {
            pipe.cmd("XADD").arg(part.key()).arg("MAXLEN").arg("~");
            pipe.arg(MAX_AUDIT).arg("*").arg("e").arg(json(&entry));
        });
        answer.await.map(drop)
    }

    /// Appends an entry unless it is among the newest ones: an earlier try may have written it without an answer.
    pub async fn write_audit_again(
        &self,
        part: AuditPart,
        entry: &AuditEntry,
    ) -> Result<(), StoreError> {
        let newest = self.audit(part, None, SEARCHED).await?;
        if newest.entries.iter().any(|there| there.id == entry.id) {
            return Ok(());
        }
        self.write_audit(part, entry).await
    }

    /// Reads at most `limit` entries, newest first. `before`: [`AuditPage::before`] of another page.
    pub async fn audit(
        &self,
        part: AuditPart,
        before: Option<&str>,
        limit: usize,
    ) -> Result<AuditPage, StoreError> {
        let start = before.map_or_else(|| "+".to_owned(), |before| format!("({before}"));
        let answer = self.run(|_, pipe| {
            pipe.cmd("XREVRANGE").arg(part.key()).arg(&start).arg("-");
            // One more, to learn whether there is another page.
            pipe.arg("COUNT").arg(limit + 1);
        });
        let mut found = entries(answer.await?).map_err(StoreError::Unavailable)?;
        let has_more = found.len() > limit;
        found.truncate(limit);
        let before = found
            .last()
            .filter(|_| has_more)
            .map(|last| last.id.clone());
        let read = found.into_iter().filter_map(|entry| {
            // An entry that cannot be read must not hide the others.
            let text = entry.fields.get("e")?;
            serde_json::from_slice(text).ok()
        });
        Ok(AuditPage {
            entries: read.collect(),
            before,
        })
    }
}
