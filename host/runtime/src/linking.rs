//! The way in which a module is linked and entered.

/// The export of a module that runs it.
pub(super) const START: &str = "_start";
/// The export of a module that prepares it, before any other export is called.
pub(super) const INITIALIZE: &str = "_initialize";

/// The way in which a module is linked and entered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Linking {
    pub unknown: UnknownImports,
    /// The export that is called instead of the default one.
    pub invoke: Option<String>,
}

/// The treatment of imports that the server does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum UnknownImports {
    /// The module does not load.
    #[default]
    Refuse,
    /// The module loads, and each such function traps when it is called.
    Trap,
}
