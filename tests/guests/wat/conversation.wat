;; The conversation of commands/src/bin/conversation.rs as a preview 1 module, written by hand.
;;
;; Bytes arrive in pieces of any size. $matched is the number of bytes of "end" that the line begins with, or -1 once it
;; is an ordinary line: only then is its echo written.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))

  ;; 0: one iovec and a result; 32: constants; 256: pointers to the arguments; 4096: the arguments; 65536: input;
  ;; 131072: output.
  (memory (export "memory") 3)
  (data (i32.const 32) "hello \00echo: \00end\00fail\00")
  (global $hello i32 (i32.const 32))
  (global $echo i32 (i32.const 39))
  (global $end i32 (i32.const 46))
  (global $fail i32 (i32.const 50))
  (global $nothing i32 (i32.const 38))
  (global $input i32 (i32.const 65536))
  (global $output i32 (i32.const 131072))
  (global $filled (mut i32) (i32.const 0))
  (global $matched (mut i32) (i32.const 0))

  (func $flush (local $from i32)
    (local.set $from (global.get $output))
    (loop $more
      (if (global.get $filled)
        (then
          (i32.store (i32.const 0) (local.get $from))
          (i32.store (i32.const 4) (global.get $filled))
          (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
            (then (call $proc_exit (i32.const 1))))
          (local.set $from (i32.add (local.get $from) (i32.load (i32.const 8))))
          (global.set $filled (i32.sub (global.get $filled) (i32.load (i32.const 8))))
          (br $more)))))

  (func $put (param $byte i32)
    (if (i32.eq (global.get $filled) (i32.const 65536)) (then (call $flush)))
    (i32.store8 (i32.add (global.get $output) (global.get $filled)) (local.get $byte))
    (global.set $filled (i32.add (global.get $filled) (i32.const 1))))

  ;; Writes the first $length bytes at $text, or those before a zero.
  (func $put_text (param $text i32) (param $length i32)
    (block $done
      (loop $more
        (br_if $done (i32.eqz (local.get $length)))
        (br_if $done (i32.eqz (i32.load8_u (local.get $text))))
        (call $put (i32.load8_u (local.get $text)))
        (local.set $text (i32.add (local.get $text) (i32.const 1)))
        (local.set $length (i32.sub (local.get $length) (i32.const 1)))
        (br $more))))

  (func $equal (param $a i32) (param $b i32) (result i32)
    (loop $more
      (if (i32.ne (i32.load8_u (local.get $a)) (i32.load8_u (local.get $b))) (then (return (i32.const 0))))
      (if (i32.eqz (i32.load8_u (local.get $a))) (then (return (i32.const 1))))
      (local.set $a (i32.add (local.get $a) (i32.const 1)))
      (local.set $b (i32.add (local.get $b) (i32.const 1)))
      (br $more))
    (unreachable))

  ;; The line is an ordinary one: start its echo with the bytes held back.
  (func $begin_echo
    (call $put_text (global.get $echo) (i32.const 6))
    (call $put_text (global.get $end) (global.get $matched))
    (global.set $matched (i32.const -1)))

  (func $take (param $byte i32)
    (if (i32.ge_s (global.get $matched) (i32.const 0))
      (then
        (if (i32.eq (global.get $matched) (i32.const 3))
          (then
            (if (i32.eq (local.get $byte) (i32.const 10))
              (then
                (call $flush)
                (call $proc_exit (i32.const 0)))))
          (else
            (if (i32.eq (local.get $byte) (i32.load8_u (i32.add (global.get $end) (global.get $matched))))
              (then
                (global.set $matched (i32.add (global.get $matched) (i32.const 1)))
                (return)))))
        (call $begin_echo)))
    (call $put (local.get $byte))
    (if (i32.eq (local.get $byte) (i32.const 10)) (then (global.set $matched (i32.const 0)))))

  (func (export "_start") (local $name i32) (local $at i32) (local $length i32)
    (local.set $name (global.get $nothing))
    (drop (call $args_sizes_get (i32.const 0) (i32.const 4)))
    (if (i32.gt_u (i32.load (i32.const 0)) (i32.const 1))
      (then
        (drop (call $args_get (i32.const 256) (i32.const 4096)))
        (local.set $name (i32.load (i32.const 260)))))
    (call $put_text (global.get $hello) (i32.const 6))
    (call $put_text (local.get $name) (i32.const -1))
    (call $put (i32.const 10))
    (call $flush)
    (if (call $equal (local.get $name) (global.get $fail)) (then (call $proc_exit (i32.const 3))))
    (block $ended
      (loop $pieces
        (i32.store (i32.const 0) (global.get $input))
        (i32.store (i32.const 4) (i32.const 65536))
        (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))
          (then (call $proc_exit (i32.const 1))))
        (local.set $length (i32.load (i32.const 8)))
        (br_if $ended (i32.eqz (local.get $length)))
        (local.set $at (i32.const 0))
        (loop $bytes
          (call $take (i32.load8_u (i32.add (global.get $input) (local.get $at))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br_if $bytes (i32.lt_u (local.get $at) (local.get $length))))
        (call $flush)
        (br $pieces)))))
