//! Returns memory that a hash table or a vector no longer needs. It grows with its entries and never shrinks by itself, so after
//! a flood it would keep the memory of the flood.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

/// Smaller tables are not worth the work.
const MIN_CAPACITY: usize = 1024;

/// Shrinks the map if at most a quarter of it is used; then about half of it is used. The entries that are left are moved.
pub(crate) fn shrink_map<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    map.shrink_to(target(map.len()));
}

/// Shrinks the set as [`shrink_map`] does.
pub(crate) fn shrink_set<T: Eq + Hash>(set: &mut HashSet<T>) {
    set.shrink_to(target(set.len()));
}

/// Shrinks the vector if at most a quarter of it is used; then half of it is used. The elements that are left are moved.
pub(crate) fn shrink_vec<T>(vec: &mut Vec<T>) {
    let target = target(vec.len());
    if vec.capacity() > 2 * target {
        vec.shrink_to(target);
    }
}

/// A table has a power of two of places and shrinks only to a smaller power. So with this target nothing happens while more than
/// a quarter is used. `capacity()` cannot be compared instead: it does not count the places of removed entries.
fn target(used: usize) -> usize {
    (2 * used).max(MIN_CAPACITY)
}

#[cfg(test)]
mod tests;
