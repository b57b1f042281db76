//! What was repaired.

use shared::reading::Repair;

use crate::payload::kind::{RepairKind, RepairKinds};

/// What was repaired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::payload) struct Notes {
    pub(in crate::payload) kinds: RepairKinds,
    pub(in crate::payload) repair: Repair,
}

impl Notes {
    /// Notes a repair that leaves no doubt about the content.
    pub(in crate::payload) fn framing(&mut self, kind: RepairKind) {
        self.kinds.insert(kind);
    }

    /// Notes any other repair.
    pub(in crate::payload) fn content(&mut self, kind: RepairKind, repair: Repair) {
        self.kinds.insert(kind);
        self.repair = self.repair.max(repair);
    }

    /// Adds other notes.
    pub(in crate::payload) fn add_all(&mut self, others: Self) {
        self.kinds.insert_all(others.kinds);
        self.repair = self.repair.max(others.repair);
    }
}

/// Whether the byte is a blank or a control character.
pub(super) fn is_blank(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7F
}

/// Whether the byte is white space in JSON.
pub(super) fn is_white_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}
