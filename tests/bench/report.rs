//! The figures of a run: one table to read, and the same as JSON.

pub(crate) mod machine;
pub(crate) mod plot;
pub(crate) mod row;
pub(crate) mod table;
