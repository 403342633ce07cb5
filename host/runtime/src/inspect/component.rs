//! The imports and exports of a component.

use super::{Meaning, Problem, known, names};
use std::collections::BTreeMap;
use wasmparser::{
    Parser, Payload, ValidPayload, Validator, WasmFeatures,
    component_types::{ComponentAnyTypeId, ComponentEntityType},
    types::Types,
};

/// The interfaces of components that answer HTTP requests.
const PROXIES: [&str; 2] = ["wasi:http/incoming-handler@", "wasi:http/handler@"];

#[derive(Debug, Default)]
pub struct Component {
    imports: Vec<Import>,
    exports: Vec<String>,
}

#[derive(Debug)]
struct Import {
    name: String,
    /// Whether the host must provide functions or resources; an interface can consist of types only.
    needs_host: bool,
}

impl Component {
    pub fn read(binary: &[u8]) -> wasmparser::Result<Self> {
        let (mut names, mut exports, mut depth) = (Vec::new(), Vec::new(), 0usize);
        let mut types = None;
        // Checks the types of everything except the code of functions. Errors are left to the compiler.
        let mut validator = Some(Validator::new_with_features(WasmFeatures::all()));
        for payload in Parser::new(0).parse_all(binary) {
            let payload = payload?;
            match &payload {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(imports) if depth == 0 => {
                    for import in imports.clone() {
                        names.push(import?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section.clone() {
                        exports.push(export?.name.name.to_owned());
                    }
                }
                _ => {}
            }
            match validator.as_mut().map(|it| it.payload(&payload)) {
                Some(Ok(ValidPayload::End(found))) => types = Some(found),
                Some(Err(_)) => validator = None,
                _ => {}
            }
        }
        let types = types.filter(|_| validator.is_some());
        let import = |name: String| Import { needs_host: types.as_ref().is_none_or(|it| needs_host(it, &name)), name };
        Ok(Self { imports: names.into_iter().map(import).collect(), exports })
    }

    /// Returns the problem with the entry point, if any.
    pub fn entry(&self, invoke: Option<&str>) -> Option<Problem> {
        if invoke.is_some() {
            return Some(Problem::InvokeOfComponent);
        }
        let exports = |beginning: &str| self.exports.iter().find(|name| name.starts_with(beginning));
        if let Some(run) = exports("wasi:cli/run@") {
            return run.contains("-rc").then(|| Problem::CandidateOfRun(run.clone()));
        }
        match PROXIES.iter().find_map(|proxy| exports(proxy)) {
            Some(proxy) => Some(Problem::Proxy(proxy.clone())),
            None => Some(Problem::NothingToRun(self.exports.clone())),
        }
    }

    /// Returns the imports that the server does not have, by their meaning.
    pub fn missing(&self) -> BTreeMap<Meaning, Vec<String>> {
        let mut missing: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for Import { name, .. } in self.imports.iter().filter(|it| it.needs_host && !known::has_interface(&it.name)) {
            missing.entry(Meaning::of_interface(name)).or_default().push(name.clone());
        }
        missing
    }

    pub fn findings(&self) -> Vec<String> {
        let imports: Vec<_> = self.imports.iter().map(|import| import.name.clone()).collect();
        let lists = [("imports", &imports), ("exports", &self.exports)];
        lists
            .iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(what, list)| format!("{what}: {}", names(list)))
            .collect()
    }
}

fn needs_host(types: &Types, name: &str) -> bool {
    let Some(item) = types.component_item_for_import(name) else { return true };
    match &item.ty {
        ComponentEntityType::Instance(instance) => types[*instance].exports.values().any(|item| match &item.ty {
            ComponentEntityType::Type { referenced, .. } => matches!(referenced, ComponentAnyTypeId::Resource(_)),
            _ => true,
        }),
        ComponentEntityType::Type { .. } => false,
        _ => true,
    }
}
