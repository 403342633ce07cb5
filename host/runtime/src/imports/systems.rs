//! `distillery:call/systems`: the public systems, for components with that grant.

use crate::state::State;
use distillery_core::systems::{Directory, System};
use std::{sync::Arc, thread};
use tokio::sync::oneshot;
use wasmtime::component::{Linker, Val};

fn to_read(state: &State) -> Result<Arc<dyn Directory>, String> {
    let granted = state.systems.as_ref().ok_or("plugin.yaml does not ask for systems: read")?;
    granted.directory()
}

fn to_write(state: &State) -> Result<Arc<dyn Directory>, String> {
    let granted = state.systems.as_ref().filter(|it| it.write).ok_or("plugin.yaml does not ask for systems: write")?;
    granted.directory()
}

pub fn add_to_components(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut systems = linker.instance("distillery:call/systems@0.1.0")?;
    systems.func_new("list", |store, _, _, results| {
        let listed = to_read(store.data()).map(|directory| directory.list().into_iter().map(record).collect());
        results[0] = result(listed.map(Val::List));
        Ok(())
    })?;
    systems.func_new_async("put", |store, _, params, results| {
        let directory = to_write(store.data());
        let system = params.first().and_then(system);
        Box::new(async move {
            let system = system.ok_or_else(|| wasmtime::format_err!("not a system"))?;
            results[0] = result(write(directory, move |it| it.put(system)).await);
            Ok(())
        })
    })?;
    systems.func_new_async("remove", |store, _, params, results| {
        let directory = to_write(store.data());
        let slug = params.first().and_then(string);
        Box::new(async move {
            let slug = slug.ok_or_else(|| wasmtime::format_err!("not a slug"))?;
            results[0] = result(write(directory, move |it| it.remove(&slug)).await);
            Ok(())
        })
    })
}

/// Runs a blocking operation on a separate thread.
async fn write(
    directory: Result<Arc<dyn Directory>, String>,
    change: impl FnOnce(&dyn Directory) -> Result<bool, String> + Send + 'static,
) -> Result<Val, String> {
    let directory = directory?;
    let failed = "the server failed to keep it";
    let (tell, done) = oneshot::channel();
    // A separate thread keeps file operations of guests and the database from delaying each other.
    let thread = thread::Builder::new().name("systems".into());
    thread.spawn(move || _ = tell.send(change(&*directory))).map_err(|_| failed)?;
    done.await.map_err(|_| failed)?.map(Val::Bool)
}

fn result(result: Result<Val, String>) -> Val {
    Val::Result(match result {
        Ok(value) => Ok(Some(Box::new(value))),
        Err(why) => Err(Some(Box::new(Val::String(why)))),
    })
}

fn record(system: System) -> Val {
    let edited = system.last_edit.map(|it| Box::new(Val::String(it)));
    let fields = [
        ("slug", Val::String(system.slug)),
        ("url", Val::String(system.url)),
        ("tagline", Val::String(system.tagline)),
        ("entity-count", Val::U64(system.entity_count)),
        ("bundle-count", Val::U64(system.bundle_count)),
        ("last-edit", Val::Option(edited)),
    ];
    Val::Record(fields.map(|(name, value)| (name.to_owned(), value)).into())
}

fn string(value: &Val) -> Option<String> {
    if let Val::String(text) = value { Some(text.clone()) } else { None }
}

fn system(value: &Val) -> Option<System> {
    let Val::Record(fields) = value else { return None };
    let field = |name: &str| fields.iter().find(|(it, _)| it == name).map(|(_, value)| value);
    let text = |name: &str| field(name).and_then(string);
    let count = |name: &str| if let Val::U64(count) = field(name)? { Some(*count) } else { None };
    let Val::Option(last_edit) = field("last-edit")? else { return None };
    Some(System {
        slug: text("slug")?,
        url: text("url")?,
        tagline: text("tagline")?,
        entity_count: count("entity-count")?,
        bundle_count: count("bundle-count")?,
        last_edit: last_edit.as_deref().and_then(string),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_round_trips_through_a_guest() {
        let whole = System {
            slug: "coins".into(),
            url: "https://coins.example.org".into(),
            tagline: "Coins & medals".into(),
            entity_count: 12,
            bundle_count: 3,
            last_edit: Some("2024-05-01T12:30:00Z".into()),
        };
        for it in [whole, System::default()] {
            assert_eq!(system(&record(it.clone())), Some(it));
        }
        assert_eq!(system(&Val::Bool(true)), None);
    }
}
