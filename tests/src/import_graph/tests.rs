use super::ImportGraph;

fn circles(sources: &[(&str, &str)]) -> Vec<String> {
    ImportGraph::new(sources.iter().copied())
        .expect("sources of Rust")
        .circles()
}

#[test]
fn a_circle_is_found_wherever_the_paths_are() {
    let found = circles(&[
        ("lib.rs", "pub mod a; pub mod b; pub mod c;"),
        (
            "a.rs",
            "use std::fmt; use crate::{b::{self, Thing}, other::X};",
        ),
        ("b.rs", "fn f() { super::c::g::<u8>(1) }"),
        ("c.rs", "fn g(x: &crate::a::Name) {}"),
    ]);
    assert_eq!(found, ["a → b → c → a"]);
}

#[test]
fn the_shortest_circle_of_each_group_is_named() {
    let found = circles(&[
        ("a.rs", "use crate::b::B; use crate::c::C;"),
        ("b.rs", "use crate::a::A;"),
        ("c.rs", "use crate::b::B;"),
        ("x.rs", "use super::y::Y;"),
        ("y.rs", "use self::super::x::X; use super::x::X;"),
    ]);
    assert_eq!(found, ["a → b → a", "x → y → x"]);
}

#[test]
fn a_child_may_use_its_parent_and_a_third_file_closes_the_circle() {
    let parent = ("store.rs", "mod read; pub use read::Snapshot;");
    let child = (
        "store/read.rs",
        "use super::Store; use crate::store::Answer;",
    );
    assert_eq!(circles(&[parent, child]), [""; 0]);
    let child = (
        "store/read.rs",
        "use super::Store; use crate::apply::Input;",
    );
    let other = ("apply.rs", "use crate::store::Store;");
    let found = circles(&[parent, child, other]);
    assert_eq!(found, ["apply → store → store/read → apply"]);
}

#[test]
fn an_item_that_a_parent_exports_again_is_the_parents() {
    let found = circles(&[
        (
            "store.rs",
            "mod read; pub use self::read::Snapshot; use crate::apply::Input;",
        ),
        ("store/read.rs", ""),
        ("apply.rs", "use crate::store::Snapshot;"),
    ]);
    assert_eq!(found, ["apply → store → apply"]);
    let found = circles(&[
        ("store.rs", "pub mod read; use crate::apply::Input;"),
        ("store/read.rs", ""),
        ("apply.rs", "use crate::store::read::Snapshot;"),
    ]);
    assert_eq!(found, [""; 0]);
}

#[test]
fn tests_comments_texts_and_modules_in_braces_are_no_imports() {
    let found = circles(&[
        (
            "a.rs",
            r##"
            // use crate::b::B;
            /* use crate::b::B; /* nested */ */
            const QUOTED: &str = "crate::b::B \" crate::b::B";
            const RAW: &str = r#"crate::b::B " crate::b::B"#;
            const CHARACTERS: [char; 2] = ['"', '\''];
            fn f<'a>(x: &'a str) {}
            #[cfg(test)]
            use crate::b::B;
            #[cfg(test)]
            mod tests { use crate::b::B; fn f() {} }
            #[cfg(test)]
            mod more;
            mod inner { use super::f; use crate::c::C; }
            "##,
        ),
        ("a/tests.rs", "use crate::b::B;"),
        ("a/tests/more.rs", "use crate::b::B;"),
        ("b.rs", "use crate::a::A;"),
        ("c.rs", ""),
    ]);
    assert_eq!(found, [""; 0]);
    let found = circles(&[
        ("a.rs", "mod inner { use super::super::c::C; }"),
        ("c.rs", "use crate::a::A;"),
    ]);
    assert_eq!(found, ["a → c → a"]);
}
