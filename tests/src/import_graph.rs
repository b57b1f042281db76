//! The imports between source files, and circles among them. Pure.
//!
//! An import is a path in a `use` or anywhere else that begins with `crate`, `super`, `self` or a module below the file. It is
//! an import of the deepest file that the path names: an item that a parent re-exports belongs to the parent. A
//! file may use its ancestors: that is not an import.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow};
use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// The names of the modules from the root of the crate to a file: none for the root itself.
type Module = Vec<String>;

/// The modules that each file imports, by the module of the file.
#[derive(Debug, Default)]
pub struct ImportGraph {
    imports: BTreeMap<Module, BTreeSet<Module>>,
}

impl ImportGraph {
    /// Reads the sources of one crate: for each file its path below the crate's source folder, e.g. `store/read.rs`, and
    /// its text. Files of tests are left out, the root is `lib.rs` or `main.rs`.
    pub fn new<'a>(sources: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        let texts: BTreeMap<Module, &str> = sources
            .into_iter()
            .filter(|(path, _)| !is_test(path))
            .map(|(path, text)| (module(path), text))
            .collect();
        let mut imports = BTreeMap::new();
        for (module, text) in &texts {
            let mut reader = Reader {
                files: &texts,
                file: module,
                inner: Vec::new(),
                found: BTreeSet::new(),
            };
            let tokens = tokens(text).with_context(|| name(module))?;
            reader.read(&without_tests(&tokens));
            imports.insert(module.clone(), reader.found);
        }
        Ok(Self { imports })
    }

    /// Circles of imports: for each group of files that import each other the shortest one, as `a → b → a`.
    pub fn circles(&self) -> Vec<String> {
        let mut circles = Vec::new();
        let mut covered = BTreeSet::new();
        for module in self.imports.keys() {
            if covered.contains(module) {
                continue;
            }
            if let Some(circle) = self.shortest_circle(module) {
                covered.extend(self.group(module));
                let names = circle.iter().map(|module| name(module));
                circles.push(names.collect::<Vec<_>>().join(" → "));
            }
        }
        circles
    }

    /// Finds the shortest way from a file back to itself.
    fn shortest_circle(&self, start: &Module) -> Option<Vec<Module>> {
        let mut ways = VecDeque::from([vec![start.clone()]]);
        let mut seen = BTreeSet::new();
        while let Some(way) = ways.pop_front() {
            for next in self.imports.get(way.last()?).into_iter().flatten() {
                let mut longer = way.clone();
                longer.push(next.clone());
                if next == start {
                    return Some(longer);
                }
                if seen.insert(next) {
                    ways.push_back(longer);
                }
            }
        }
        None
    }

    /// Finds the files that this one reaches and that reach it.
    fn group(&self, module: &Module) -> Vec<Module> {
        let reached = self.reached(module);
        let returns = |other: &Module| self.reached(other).contains(module);
        reached.into_iter().filter(returns).collect()
    }

    fn reached(&self, module: &Module) -> BTreeSet<Module> {
        let mut reached = BTreeSet::new();
        let mut open = vec![module];
        while let Some(next) = open.pop() {
            for import in self.imports.get(next).into_iter().flatten() {
                if reached.insert(import.clone()) {
                    open.push(import);
                }
            }
        }
        reached
    }
}

fn is_test(path: &str) -> bool {
    path.split('/')
        .any(|part| part == "tests" || part == "tests.rs")
}

fn module(path: &str) -> Module {
    match path.trim_end_matches(".rs") {
        "lib" | "main" => Module::new(),
        path => path.split('/').map(str::to_owned).collect(),
    }
}

fn name(module: &[String]) -> String {
    if module.is_empty() {
        "the root".to_owned()
    } else {
        module.join("/")
    }
}

/// Finds the imports of one file.
struct Reader<'a> {
    files: &'a BTreeMap<Module, &'a str>,
    file: &'a Module,
    // The modules in braces around the present token, each with the depth of braces outside it.
    inner: Vec<(String, usize)>,
    found: BTreeSet<Module>,
}

impl Reader<'_> {
    fn read(&mut self, tokens: &[String]) {
        let mut depth = 0;
        let mut at = 0;
        while at < tokens.len() {
            match tokens[at].as_str() {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    self.inner.pop_if(|(_, outside)| *outside == depth);
                }
                "mod" if tokens.get(at + 2).is_some_and(|token| token == "{") => {
                    self.inner.push((tokens[at + 1].clone(), depth));
                }
                "use" => at = self.tree(tokens, at + 1, &[]),
                _ => {
                    let is_start = at == 0 || tokens[at - 1] != "::";
                    if is_start && tokens.get(at + 1).is_some_and(|token| token == "::") {
                        at = self.tree(tokens, at, &[]);
                    }
                }
            }
            at += 1;
        }
    }

    /// Adds the imports of a `use` tree whose paths all begin with `before`. Returns the index of its last token.
    fn tree(&mut self, tokens: &[String], mut at: usize, before: &[String]) -> usize {
        let mut path = before.to_vec();
        while let Some(token) = tokens.get(at) {
            match token.as_str() {
                "::" => {}
                "{" => {
                    at += 1;
                    while tokens.get(at).is_some_and(|token| token != "}") {
                        at = self.tree(tokens, at, &path) + 1;
                        if tokens.get(at).is_some_and(|token| token == ",") {
                            at += 1;
                        }
                    }
                    return at;
                }
                word if is_word(word) => path.push(word.to_owned()),
                _ => break,
            }
            let continues = tokens.get(at + 1).is_some_and(|next| {
                let is_joined = next == "::" || token == "::";
                is_joined && (next == "::" || next == "{" || is_word(next))
            });
            if !continues {
                break;
            }
            at += 1;
        }
        self.add(&path);
        at
    }

    /// Adds the deepest file that a path names.
    fn add(&mut self, path: &[String]) {
        let inner = self.inner.iter().map(|(name, _)| name.clone());
        let mut from: Module = self.file.iter().cloned().chain(inner).collect();
        let mut rest = path;
        match rest.first().map(String::as_str) {
            Some("crate") => {
                from.clear();
                rest = &rest[1..];
            }
            Some("self") => rest = &rest[1..],
            Some("super") => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    from.pop();
                    rest = &rest[1..];
                }
            }
            // A module declared here, or another crate, or a type.
            Some(first) => {
                let mut child = from.clone();
                child.push(first.to_owned());
                if !self.files.contains_key(&child) {
                    return;
                }
            }
            None => return,
        }
        for segment in rest {
            from.push(segment.clone());
            if !self.files.contains_key(&from) {
                from.pop();
                break;
            }
        }
        // For modules in braces, take the file that contains them.
        while !self.files.contains_key(&from) && from.pop().is_some() {}
        if !self.file.starts_with(&from) {
            self.found.insert(from);
        }
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Removes the items behind `#[cfg(test)]`, which only tests see.
fn without_tests(tokens: &[String]) -> Vec<String> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at..].iter().take(MARK.len()).eq(MARK) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let mut depth = 0;
        at += MARK.len();
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token.as_str() {
                "{" => depth += 1,
                "}" if depth == 1 => break,
                "}" => depth -= 1,
                ";" if depth == 0 => break,
                _ => {}
            }
        }
    }
    kept
}

/// Splits a source into tokens: words, signs, and `"` for every literal. Comments are left out.
fn tokens(text: &str) -> Result<Vec<String>> {
    let stream = TokenStream::from_str(text).map_err(|error| anyhow!("{error}"))?;
    let mut tokens = Vec::new();
    flatten(stream, &mut tokens);
    Ok(tokens)
}

fn flatten(stream: TokenStream, tokens: &mut Vec<String>) {
    let mut is_path_sign = false;
    for tree in stream {
        match tree {
            TokenTree::Group(group) => {
                let [open, close] = match group.delimiter() {
                    Delimiter::Brace => ["{", "}"],
                    Delimiter::Bracket => ["[", "]"],
                    Delimiter::Parenthesis | Delimiter::None => ["(", ")"],
                };
                tokens.push(open.to_owned());
                flatten(group.stream(), tokens);
                tokens.push(close.to_owned());
            }
            TokenTree::Ident(word) => tokens.push(word.to_string()),
            TokenTree::Literal(_) => tokens.push("\"".to_owned()),
            // `::` comes as two signs, of which the first is joined to the second.
            TokenTree::Punct(sign) if sign.as_char() == ':' && is_path_sign => {
                is_path_sign = false;
                tokens.push("::".to_owned());
            }
            TokenTree::Punct(sign) if sign.as_char() == ':' && sign.spacing() == Spacing::Joint => {
                is_path_sign = true;
            }
            TokenTree::Punct(sign) => tokens.push(sign.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
