;; Treats its stdout as a socket, a hundred thousand times: the host refuses, and must not log a line for each.
(module
  (import "wasi_snapshot_preview1" "sock_accept" (func $sock_accept (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $times i32)
    (local.set $times (i32.const 100000))
    (loop $again
      (drop (call $sock_accept (i32.const 1) (i32.const 0) (i32.const 256)))
      (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))))
