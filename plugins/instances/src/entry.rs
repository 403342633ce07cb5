//! The entry of an instance among the public systems. It follows the files: the next call that changes the instance
//! restores a missing entry.

use crate::{
    Host,
    host::System,
    instance::{Instance, State},
    slug::Slug,
};
use anyhow::Result;

/// Returns the new entry of `instance`, which keeps what others have written into the `existing` one.
fn wanted(instance: &Instance, existing: Option<System>) -> System {
    let running = instance.flavor.clone();
    let stopped = format!("{running} (stopped)");
    let (own, other) = match instance.state {
        State::Running | State::Provisioning => (running, stopped),
        State::Stopped => (stopped, running),
    };
    let existing = existing.unwrap_or_else(|| System {
        slug: instance.slug.clone(),
        url: String::new(),
        tagline: String::new(),
        entity_count: 0,
        bundle_count: 0,
        last_edit: None,
    });
    let tagline = if existing.tagline.is_empty() || existing.tagline == other { own } else { existing.tagline };
    System { url: instance.url.clone(), tagline, last_edit: Some(instance.edited.clone()), ..existing }
}

pub fn find(host: &impl Host, slug: &Slug) -> Result<Option<System>> {
    Ok(host.systems()?.into_iter().find(|system| system.slug == slug.as_str()))
}

/// Updates the entry of `instance`. Needs the lock of the instance.
pub fn follow(host: &mut impl Host, slug: &Slug, instance: &Instance) -> Result<()> {
    let existing = find(host, slug)?;
    let wanted = wanted(instance, existing.clone());
    if existing.as_ref() != Some(&wanted) {
        host.put_system(&wanted)?;
    }
    Ok(())
}

/// Removes the entry, if it was made for `instance` and is unchanged.
pub fn take_back(host: &mut impl Host, slug: &Slug, instance: &Instance) -> Result<()> {
    if find(host, slug)? == Some(wanted(instance, None)) {
        host.remove_system(slug.as_str())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_follows_the_state_and_keeps_other_fields() {
        let mut instance = Instance {
            slug: "coins".to_owned(),
            template: "drupal".to_owned(),
            version: 1,
            flavor: "Drupal 10".to_owned(),
            url: "http://coins.localhost".to_owned(),
            port: None,
            state: State::Running,
            params: Default::default(),
            provisioned: "2026-01-31T12:00:00Z".to_owned(),
            edited: "2026-01-31T12:00:00Z".to_owned(),
            restored: false,
        };
        let first = wanted(&instance, None);
        assert_eq!((first.tagline.as_str(), first.url.as_str()), ("Drupal 10", "http://coins.localhost"));
        instance.state = State::Stopped;
        assert_eq!(wanted(&instance, Some(first.clone())).tagline, "Drupal 10 (stopped)");
        let edited = System { tagline: "Coins & medals".into(), entity_count: 7, ..first };
        let kept = wanted(&instance, Some(edited));
        assert_eq!((kept.tagline.as_str(), kept.entity_count), ("Coins & medals", 7));
    }
}
