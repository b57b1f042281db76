use super::*;

#[test]
fn a_table_shrinks_once_most_entries_are_gone_and_keeps_the_rest() {
    let mut map: HashMap<u32, u32> = (0..100_000).map(|number| (number, number)).collect();
    let mut set: HashSet<u32> = (0..100_000).collect();
    map.retain(|number, _| *number < 3000);
    set.retain(|number| *number < 3000);
    shrink_map(&mut map);
    shrink_set(&mut set);
    for capacity in [map.capacity(), set.capacity()] {
        assert!((6000..=12_000).contains(&capacity), "{capacity}");
    }
    assert_eq!((map.len(), set.len()), (3000, 3000));
    assert_eq!(map.get(&2999), Some(&2999));
}

#[test]
fn a_table_of_which_more_than_a_quarter_is_used_is_left_alone() {
    let mut map: HashMap<u32, u32> = HashMap::with_capacity(100_000);
    let capacity = map.capacity();
    let used = capacity / 4 + 1;
    map.extend((0..).zip(0..).take(used));
    shrink_map(&mut map);
    assert_eq!(map.capacity(), capacity);
}

#[test]
fn a_small_table_is_left_alone() {
    let mut map: HashMap<u32, u32> = HashMap::with_capacity(500);
    let capacity = map.capacity();
    shrink_map(&mut map);
    assert_eq!(map.capacity(), capacity);
}

#[test]
fn a_vector_shrinks_once_most_elements_are_gone() {
    let mut vec: Vec<u32> = (0..100_000).collect();
    let full = vec.capacity();
    vec.truncate(full / 4 + 1);
    shrink_vec(&mut vec);
    assert_eq!(vec.capacity(), full);
    vec.truncate(3000);
    shrink_vec(&mut vec);
    assert!(
        (6000..=12_000).contains(&vec.capacity()),
        "{}",
        vec.capacity()
    );
    assert_eq!(vec.last(), Some(&2999));
}
