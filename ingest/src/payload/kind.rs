//! The kinds of repair, which are counted.

/// A kind of repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepairKind {
    /// A byte-order mark at the beginning.
    ByteOrderMark,
    /// The text is UTF-16.
    Utf16,
    /// NUL or other control characters around an object.
    Padding,
    /// A control character in a string.
    ControlCharacter,
    /// A string in a single-byte encoding (Windows-1252).
    SingleByteText,
    /// A number with leading zeros.
    LeadingZero,
    /// Several objects, or an array of them.
    SeveralObjects,
    /// Other bytes around an object, or control characters in its structure.
    OtherBytes,
    /// A trailing or doubled comma.
    Comma,
    /// A word that is no JSON, such as `nan`.
    BareWord,
    /// A key without a value.
    EmptyValue,
    /// A number with a bare point, or with a plus sign.
    PointOrSign,
    /// An escape that is no character.
    Escape,
    /// A key that comes twice, with different values.
    RepeatedKey,
    /// The payload cannot be read as a whole.
    Unreadable,
}

impl RepairKind {
    /// The codes of all kinds, in the order of the variants.
    pub const CODES: [&'static str; 15] = [
        "byte_order_mark",
        "utf_16",
        "padding",
        "control_character",
        "single_byte_text",
        "leading_zero",
        "several_objects",
        "other_bytes",
        "comma",
        "bare_word",
        "empty_value",
        "point_or_sign",
        "escape",
        "repeated_key",
        "unreadable",
    ];

    /// Returns the code of the kind in metrics.
    #[must_use]
    pub fn code(self) -> &'static str {
        Self::CODES[self as usize]
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RepairKinds(u16);

impl RepairKinds {
    /// Adds a kind.
    pub(super) fn insert(&mut self, kind: RepairKind) {
        self.0 |= 1 << kind as u16;
    }

    /// Adds all kinds of another set.
    pub(super) fn insert_all(&mut self, others: Self) {
        self.0 |= others.0;
    }

    /// The kinds that make a reading uncertain, one bit each. A new kind is added at the end, since the bits are stored.
    #[must_use]
    pub fn uncertain_bits(self) -> u16 {
        self.0 & !((1 << RepairKind::OtherBytes as u16) - 1)
    }

    /// Whether there is no kind.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the set has this kind.
    #[must_use]
    pub fn contains(self, kind: RepairKind) -> bool {
        self.0 & (1 << kind as u16) != 0
    }

    /// Returns the codes of the kinds.
    pub fn codes(self) -> impl Iterator<Item = &'static str> {
        let has = move |index: &usize| self.0 & (1 << index) != 0;
        (0..RepairKind::CODES.len())
            .filter(has)
            .map(|index| RepairKind::CODES[index])
    }
}
