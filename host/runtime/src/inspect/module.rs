//! The imports, exports, memories and entry points of a core module.

use super::{INITIALIZE, Meaning, Problem, START, known, names, pages};
use std::collections::BTreeMap;
use wasmparser::{CompositeInnerType, ExternalKind, MemoryType, Parser, Payload, TypeRef};

#[derive(Debug, Default)]
pub struct Module {
    imports: Vec<Import>,
    exports: Vec<Export>,
    memories: Vec<MemoryType>,
    /// Whether each function type has neither parameters nor results.
    plain_types: Vec<bool>,
    /// The type of each function, imported ones first.
    functions: Vec<u32>,
}

#[derive(Debug)]
struct Import {
    module: String,
    name: String,
    is_function: bool,
}

#[derive(Debug)]
struct Export {
    name: String,
    kind: ExternalKind,
    index: u32,
}

impl Export {
    fn is_function(&self) -> bool {
        matches!(self.kind, ExternalKind::Func | ExternalKind::FuncExact)
    }
}

impl Module {
    pub fn read(binary: &[u8]) -> wasmparser::Result<Self> {
        let mut module = Self::default();
        for payload in Parser::new(0).parse_all(binary) {
            match payload? {
                Payload::TypeSection(groups) => {
                    for group in groups {
                        let types = group?.into_types();
                        module.plain_types.extend(types.map(|it| match &it.composite_type.inner {
                            CompositeInnerType::Func(function) => {
                                function.params().is_empty() && function.results().is_empty()
                            }
                            _ => false,
                        }));
                    }
                }
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        module.import(import?);
                    }
                }
                Payload::FunctionSection(functions) => {
                    for function in functions {
                        module.functions.push(function?);
                    }
                }
                Payload::MemorySection(memories) => {
                    for memory in memories {
                        module.memories.push(memory?);
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export?;
                        let (name, kind, index) = (export.name.to_owned(), export.kind, export.index);
                        module.exports.push(Export { name, kind, index });
                    }
                }
                _ => {}
            }
        }
        Ok(module)
    }

    fn import(&mut self, import: wasmparser::Import<'_>) {
        let is_function = match import.ty {
            TypeRef::Func(kind) | TypeRef::FuncExact(kind) => {
                self.functions.push(kind);
                true
            }
            TypeRef::Memory(memory) => {
                self.memories.push(memory);
                false
            }
            _ => false,
        };
        self.imports.push(Import { module: import.module.to_owned(), name: import.name.to_owned(), is_function });
    }

    fn export(&self, name: &str) -> Option<&Export> {
        self.exports.iter().find(|export| export.name == name)
    }

    /// Returns whether an exported function has neither parameters nor results.
    fn is_plain(&self, export: &Export) -> bool {
        let kind = self.functions.get(export.index as usize);
        let plain = kind.and_then(|kind| self.plain_types.get(*kind as usize));
        export.is_function() && plain.copied().unwrap_or(false)
    }

    /// Returns the functions that can be entry points.
    fn candidates(&self) -> Vec<String> {
        let plain = self.exports.iter().filter(|export| self.is_plain(export) && export.name != INITIALIZE);
        plain.map(|export| export.name.clone()).collect()
    }

    /// Returns the problem with the entry point, if any.
    pub fn entry(&self, invoke: Option<&str>) -> Option<Problem> {
        let name = invoke.unwrap_or(START);
        let Some(export) = self.export(name) else {
            let others = self.candidates();
            return Some(match invoke {
                Some(name) => Problem::NoSuchExport { name: name.to_owned(), others },
                // The exports of a component's interfaces.
                None if self.exports.iter().any(|it| it.name.contains('#')) => Problem::CoreOfComponent,
                None if self.export(INITIALIZE).is_some() => Problem::Reactor(others),
                None => Problem::NothingToRun(others),
            });
        };
        if !export.is_function() {
            return Some(Problem::NotAFunction(name.to_owned()));
        }
        let prepares = self.export(INITIALIZE).filter(|export| export.is_function() && !self.is_plain(export));
        let wrong = if self.is_plain(export) { prepares } else { Some(export) };
        wrong.map(|export| Problem::EntryWithValues(export.name.clone()))
    }

    /// Returns the problem if the module imports functions that use its memory, and exports none.
    pub(crate) fn without_memory(&self) -> Option<Problem> {
        let has_memory = self.export("memory").is_some_and(|export| export.kind == ExternalKind::Memory);
        let uses = self.imports.iter().find(|it| known::uses_memory(&it.module, &it.name) == Some(true));
        uses.filter(|_| !has_memory).map(|it| Problem::NoMemory(it.name.clone()))
    }

    /// Returns the imports that the server does not have, by their meaning.
    pub fn missing(&self) -> BTreeMap<Meaning, Vec<String>> {
        let mut missing: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for Import { module, name, is_function } in &self.imports {
            if !*is_function || !known::has_function(module, name) {
                missing.entry(Meaning::of_function(module, name)).or_default().push(format!("{module}::{name}"));
            }
        }
        missing
    }

    pub fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        self.imports.iter().for_each(|import| *counts.entry(&import.module).or_default() += 1);
        if !counts.is_empty() {
            let counts: Vec<_> = counts.iter().map(|(module, count)| format!("{module} ({count})")).collect();
            findings.push(format!("imports: {}", names(&counts)));
        }
        if !self.exports.is_empty() {
            let exports: Vec<_> = self.exports.iter().map(|export| export.name.clone()).collect();
            findings.push(format!("exports: {}", names(&exports)));
        }
        for memory in &self.memories {
            let most =
                memory.maximum.map_or("no maximum of its own".to_owned(), |most| format!("at most {}", pages(most)));
            findings.push(format!("memory: {}, {most}", pages(memory.initial)));
        }
        findings
    }
}
