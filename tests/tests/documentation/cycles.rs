//! Refuses cycles between the modules of a package.
//!
//! Reads the code as the compiler does: follows `mod`, `use` and paths, and resolves names that a module passes on.
//! Code that only tests use can name everything.

use super::{boundaries::rust_files, repository};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};
use syn::{
    Attribute, Item, ItemMod, ItemUse, Macro, UseTree, Visibility,
    visit::{self, Visit},
};

/// The names from the root of a package to a module or an item.
type Names = Vec<String>;

/// The modules of a package and what they name.
#[derive(Default)]
struct Package {
    modules: BTreeSet<Names>,
    /// What each name in a module stands for, if a `use` brought it there.
    imported: BTreeMap<Names, Names>,
    /// Each module with a path in it.
    named: Vec<(Names, Names)>,
}

/// The name of the root in the graph.
const ROOT: &str = "lib";
/// The longest chain of names that pass on the same item.
const CHAIN: usize = 8;

/// The modules that each module names, with an example of each.
type Graph<'a> = BTreeMap<&'a str, BTreeMap<&'a str, String>>;

impl Package {
    /// Reads the package whose root is the file `root`.
    fn read(root: &Path) -> Self {
        let mut package = Self::default();
        package.modules.insert(Names::new());
        let directory = root.parent().expect("a file has a directory");
        let mut waiting = vec![(Names::new(), root.to_owned())];
        while let Some((module, file)) = waiting.pop() {
            let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let code = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let mut reader = Reader { package: &mut package, module, files: Vec::new() };
            reader.visit_file(&code);
            for module in reader.files {
                let file = directory.join(module.join("/")).with_extension("rs");
                waiting.push((module, file));
            }
        }
        package
    }

    /// Returns the module that holds what `path` names; `None` if it is outside of the package.
    fn module_of(&self, path: &[String]) -> &[String] {
        let mut path = path.to_owned();
        for _ in 0..CHAIN {
            let module = self.innermost(&path);
            let Some(stands_for) = path.get(..=module.len()).and_then(|name| self.imported.get(name)) else {
                return module;
            };
            path = stands_for.iter().chain(&path[module.len() + 1..]).cloned().collect();
        }
        panic!("{path:?} is passed on in a circle");
    }

    /// Returns the innermost module on the way to `path`.
    fn innermost(&self, path: &[String]) -> &[String] {
        let found = (0..=path.len()).rev().find_map(|length| self.modules.get(&path[..length]));
        found.expect("the root is a module")
    }

    /// Returns what the modules directly below the root name among each other.
    fn graph(&self) -> Graph<'_> {
        let mut graph = Graph::new();
        for (module, path) in &self.named {
            let (from, to) = (top(module), top(self.module_of(path)));
            if from != to {
                let example = format!("{} names {}", module.join("::"), path.join("::"));
                graph.entry(from).or_default().entry(to).or_insert(example);
            }
        }
        graph
    }

    /// Returns all steps that lie on a cycle.
    fn cycles(&self) -> Vec<String> {
        let graph = self.graph();
        let mut cycles = Vec::new();
        for (from, named) in &graph {
            cycles.extend(
                named.iter().filter(|(to, _)| reachable(&graph, to).contains(from)).map(|(_, example)| example.clone()),
            );
        }
        cycles
    }
}

/// Returns the module below the root that holds `names`, or the root.
fn top(names: &[String]) -> &str {
    names.first().map_or(ROOT, String::as_str)
}

/// Returns all modules that are reached from `start` in one step or more.
fn reachable<'a>(graph: &Graph<'a>, start: &'a str) -> BTreeSet<&'a str> {
    let (mut reached, mut waiting) = (BTreeSet::new(), vec![start]);
    while let Some(at) = waiting.pop() {
        waiting.extend(graph.get(at).into_iter().flat_map(BTreeMap::keys).filter(|next| reached.insert(**next)));
    }
    reached
}

/// Reads a file of a package.
struct Reader<'a> {
    package: &'a mut Package,
    /// The module that is being read.
    module: Names,
    /// The modules in files of their own.
    files: Vec<Names>,
}

impl Reader<'_> {
    /// Records that the module names `path`, if that is a path within the package.
    fn name(&mut self, path: &[String]) {
        if let Some(path) = self.absolute(path) {
            self.package.named.push((self.module.clone(), path));
        }
    }

    fn absolute(&self, path: &[String]) -> Option<Names> {
        let (mut module, mut rest) = (self.module.clone(), path);
        match rest.first()?.as_str() {
            "crate" => {
                module.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|it| it == "super") {
                    module.pop()?;
                    rest = &rest[1..];
                }
            }
            // A module can be named before it is read, so files and blocks are looked for as well.
            child if self.package.modules.contains(&[&module[..], &[child.to_owned()]].concat()) => {}
            _ => return None,
        }
        module.extend(rest.iter().cloned());
        Some(module)
    }

    fn import(&mut self, tree: &UseTree, before: &[String], is_front: bool) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        let (path, alias) = match tree {
            UseTree::Path(path) => return self.import(&path.tree, &with(&path.ident), is_front),
            UseTree::Group(group) => return group.items.iter().for_each(|tree| self.import(tree, before, is_front)),
            UseTree::Glob(_) => (before.to_owned(), None),
            UseTree::Name(name) if name.ident == "self" => (before.to_owned(), before.last().cloned()),
            UseTree::Name(name) => (with(&name.ident), Some(name.ident.to_string())),
            UseTree::Rename(name) => (with(&name.ident), Some(name.rename.to_string())),
        };
        if !is_front {
            self.name(&path);
        }
        if let (Some(alias), Some(path)) = (alias, self.absolute(&path)) {
            let name = [&self.module[..], &[alias]].concat();
            if name != path {
                self.package.imported.insert(name, path);
            }
        }
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(it) => &it.attrs,
        Item::Enum(it) => &it.attrs,
        Item::Fn(it) => &it.attrs,
        Item::Impl(it) => &it.attrs,
        Item::Mod(it) => &it.attrs,
        Item::Static(it) => &it.attrs,
        Item::Struct(it) => &it.attrs,
        Item::Trait(it) => &it.attrs,
        Item::Use(it) => &it.attrs,
        _ => &[],
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_file(&mut self, file: &'ast syn::File) {
        // First, so that paths that begin with a module are recognised.
        for item in &file.items {
            if let Item::Mod(module) = item
                && !is_for_tests(&module.attrs)
            {
                self.package.modules.insert([&self.module[..], &[module.ident.to_string()]].concat());
            }
        }
        visit::visit_file(self, file);
    }

    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        self.module.push(module.ident.to_string());
        if module.content.is_none() {
            self.files.push(self.module.clone());
        }
        visit::visit_item_mod(self, module);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        // What the root passes on is the front of the package; nothing in it depends on that.
        let is_front = self.module.is_empty() && !matches!(item.vis, Visibility::Inherited);
        self.import(&item.tree, &[], is_front);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            self.name(&path.segments.iter().map(|it| it.ident.to_string()).collect::<Names>());
        }
        visit::visit_path(self, path);
    }

    /// Looks at the arguments of a macro as text, as they have no form of their own.
    fn visit_macro(&mut self, code: &'ast Macro) {
        let text = code.tokens.to_string();
        let mut words =
            text.split(|c: char| !c.is_alphanumeric() && !"_:".contains(c)).filter(|it| !it.is_empty()).peekable();
        while let Some(word) = words.next() {
            let mut path = vec![word.to_owned()];
            while words.next_if_eq(&"::").is_some() {
                path.extend(words.next().map(str::to_owned));
            }
            if path.len() > 1 {
                self.name(&path);
            }
        }
        visit::visit_macro(self, code);
    }
}

#[test]
fn modules_of_a_package_form_no_cycle() {
    let mut cycles = Vec::new();
    for entry in fs::read_dir(repository("host")).expect("a directory") {
        let sources = entry.unwrap().path().join("src");
        let root = ["lib.rs", "main.rs"].map(|name| sources.join(name)).into_iter().find(|root| root.is_file());
        let Some(root) = root else { continue };
        let package = Package::read(&root);
        // A module that is not found would be free of cycles.
        let found = package.modules.len();
        assert!(found * 3 > rust_files(&sources).len(), "{}: only {found} modules found", sources.display());
        cycles.extend(package.cycles().into_iter().map(|step| format!("{}: {step}", sources.display())));
    }
    assert!(cycles.is_empty(), "{}", cycles.join("\n"));
}

#[test]
fn cycle_of_modules_is_found() {
    let root = tempfile::tempdir().expect("a directory");
    let write = |name: &str, code: &str| fs::write(root.path().join(name), code).expect("a file");
    let cycles = || Package::read(&root.path().join("lib.rs")).cycles();
    write("lib.rs", "mod a; mod b; mod c; pub use b::B; fn own() {}");
    write("a.rs", "use super::B; #[cfg(test)] mod tests { use crate::c::C; }");
    write("b.rs", "//! use crate::a;\npub struct B;");
    write("c.rs", "use crate::a;");
    assert_eq!(cycles(), Vec::<String>::new());
    for code in [
        "use super::c::C;",
        "use super::{c::{self, C}, other};",
        "fn f() -> super::c::C {}",
        "fn f() { print!(\"{}\", f(crate::c::C)) }",
        "mod inner { use super::super::c; }",
    ] {
        write("b.rs", code);
        let found = cycles().join(", ");
        assert!(found.contains("names c") && found.contains("a names"), "{code}: {found}");
    }
    // What stands in the root itself belongs to all that the root names.
    write("b.rs", "use crate::own;");
    assert_eq!(cycles(), Vec::<String>::new());
    write("lib.rs", "mod a; mod b; mod c; pub use b::B; fn own() { b::f() }");
    assert_eq!(cycles(), ["b names own", " names b::f"]);
}
