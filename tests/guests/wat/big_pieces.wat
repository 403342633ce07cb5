;; Writes and reads 20 MiB of a file in its private directory at a place, with an empty piece in front. Exits with 0 when all
;; of it went, else with the number of what did not.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pwrite" (func $pwrite (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pread" (func $pread (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 340)
  (data (i32.const 64) "file")
  (func $check (param $what i32) (param $right i32)
    (if (i32.eqz (local.get $right)) (then (call $exit (local.get $what)))))
  (func (export "_start")
    ;; An empty piece at 32, and one of 20 MiB at 40.
    (i32.store (i32.const 32) (i32.const 0x100000))
    (i32.store (i32.const 40) (i32.const 0x100000))
    (i32.store (i32.const 44) (i32.const 0x1400000))
    (call $check (i32.const 1) (i32.eqz (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 1)
      (i64.const 0x42) (i64.const 0) (i32.const 0) (i32.const 0))))
    (call $check (i32.const 2) (i32.eqz (call $pwrite (i32.load (i32.const 0)) (i32.const 32) (i32.const 2) (i64.const 5)
      (i32.const 8))))
    (call $check (i32.const 3) (i32.eq (i32.load (i32.const 8)) (i32.const 0x1400000)))
    (call $check (i32.const 4) (i32.eqz (call $pread (i32.load (i32.const 0)) (i32.const 32) (i32.const 2) (i64.const 5)
      (i32.const 8))))
    (call $check (i32.const 5) (i32.gt_u (i32.load (i32.const 8)) (i32.const 0)))))
