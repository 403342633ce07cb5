;; A preview 1 module that computes until it is cancelled, sets a value, and exits with the number of the reason.
(module
  (import "distillery_call" "cancelled" (func $cancelled (result i32)))
  (import "distillery_call" "set_value" (func $set_value (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\06\00\00\00")
  (data (i32.const 16) "ready\n")
  (data (i32.const 32) "{\"told\": true}")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (loop $again (br_if $again (i32.eqz (call $cancelled))))
    ;; Not JSON, then beyond its memory (which would trap), then valid.
    (if (i32.eqz (call $set_value (i32.const 16) (i32.const 5))) (then (unreachable)))
    (if (call $set_value (i32.const 32) (i32.const 14)) (then (unreachable)))
    (call $exit (call $cancelled))))
