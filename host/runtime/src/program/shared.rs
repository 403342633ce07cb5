//! The programs in use, so that plugins with the same module share one copy of its code.

use super::{Inner, Linking, Program};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

/// The programs in use, by the digest of their module and their linking. A program is freed with its last user.
#[derive(Default)]
pub struct Shared(Mutex<HashMap<[u8; 32], Weak<Inner>>>);

impl Shared {
    /// Returns the key of the module with the SHA-256 `code`.
    pub fn key(code: &[u8; 32], linking: &Linking) -> [u8; 32] {
        let Linking { unknown, invoke } = linking;
        let linking = format!("{unknown:?} {invoke:?} ");
        Sha256::new()
            .chain_update(linking.len().to_le_bytes())
            .chain_update(linking)
            .chain_update(code)
            .finalize()
            .into()
    }

    pub fn get(&self, key: &[u8; 32]) -> Option<Program> {
        self.0.lock().get(key)?.upgrade().map(Program)
    }

    pub fn put(&self, key: [u8; 32], program: &Program) {
        let mut programs = self.0.lock();
        programs.retain(|_, program| program.strong_count() > 0);
        programs.insert(key, Arc::downgrade(&program.0));
    }
}

#[cfg(test)]
mod tests {
    use crate::{Linking, UnknownImports, testing::runtime};
    use distillery_core::{limits::Limits, size::Size};
    use std::sync::Arc;

    #[test]
    fn plugins_with_the_same_module_share_one_program() {
        let compile = |code: &str, linking: &Linking, limits: &Limits| {
            runtime().compile(code.as_bytes(), linking, limits).map(|program| program.0)
        };
        let (plain, limits) = (Linking::default(), Limits::default());
        let code = r#"(module (memory 2) (func (export "_start")) (func (export "shared")))"#;
        let first = compile(code, &plain, &limits).unwrap();
        assert!(Arc::ptr_eq(&first, &compile(code, &plain, &limits).unwrap()));
        let other = Linking { unknown: UnknownImports::Trap, ..Linking::default() };
        assert!(!Arc::ptr_eq(&first, &compile(code, &other, &limits).unwrap()));
        let invoked = Linking { invoke: Some("shared".to_owned()), ..Linking::default() };
        assert!(!Arc::ptr_eq(&first, &compile(code, &invoked, &limits).unwrap()));
        // The limits of each plugin apply, also to what is shared.
        let small = Limits { memory: Size::kib(64), ..Limits::default() };
        assert!(compile(code, &plain, &small).is_err_and(|error| error.to_string().contains("128KiB of memory")));
        let weak = Arc::downgrade(&first);
        drop(first);
        assert!(weak.upgrade().is_none(), "freed with its last user");
    }
}
