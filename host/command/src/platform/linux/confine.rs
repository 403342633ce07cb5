//! The files that a command can use, enforced by the kernel (Landlock).

use crate::Paths;
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus,
};

/// The rights that are required: all that the first version of Landlock knows. Later rights are used where the kernel
/// has them.
const REQUIRED: ABI = ABI::V1;
const WANTED: ABI = ABI::V5;

/// Returns whether the kernel can confine commands.
pub fn can_confine() -> bool {
    ruleset().is_ok()
}

fn ruleset() -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(REQUIRED))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(WANTED))?
        .create()
}

/// Confines this thread, and the processes that it starts from now on.
pub fn confine(paths: &Paths) -> Result<(), String> {
    let cannot = |error: RulesetError| format!("cannot confine it with Landlock: {error}");
    let mut ruleset = ruleset().map_err(cannot)?;
    for (list, access) in [(&paths.read, AccessFs::from_read(WANTED)), (&paths.write, AccessFs::from_all(WANTED))] {
        for path in list {
            let open = PathFd::new(path).map_err(|error| format!("{}: {error}", path.display()))?;
            // The rights on directories do not apply to a file.
            let access = if path.is_dir() { access } else { access & AccessFs::from_file(WANTED) };
            ruleset = ruleset.add_rule(PathBeneath::new(open, access)).map_err(cannot)?;
        }
    }
    match ruleset.restrict_self().map_err(cannot)?.ruleset {
        RulesetStatus::NotEnforced => Err("cannot confine it with Landlock: the kernel does not have it".to_owned()),
        _ => Ok(()),
    }
}
