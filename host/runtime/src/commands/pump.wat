;; The guest of `component: builtin:command`: starts one granted command, and copies its three streams.
;;
;; Its arguments are the name of the call, the name of the command, and pairs of a parameter's name and its value. It
;; ends with the status of the command. A command that a signal ended has the status 128 plus the signal, as in a shell.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "distillery_call" "command_start" (func $start (param i32 i32 i32 i32 i32) (result i32)))
  (import "distillery_call" "command_error" (func $error (param i32 i32) (result i32)))
  (import "distillery_call" "command_write" (func $write (param i32 i32 i32) (result i32)))
  (import "distillery_call" "command_close" (func $close (param i32)))
  (import "distillery_call" "command_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "distillery_call" "command_poll" (func $poll (param i32 i32 i32) (result i32)))
  (import "distillery_call" "command_status" (func $status (param i32) (result i32)))

  ;; 0: one iovec. 8: the bytes that were read or written. 12: the number of the command. 16: the number of arguments.
  ;; 20: their size. 65536: output, 64 KiB. 131072: input, 16 KiB. 196608: the arguments.
  (memory (export "memory") 3)

  (global $command (mut i32) (i32.const 0))
  ;; The input that the command has not taken yet.
  (global $from (mut i32) (i32.const 0))
  (global $left (mut i32) (i32.const 0))
  ;; Whether there can be more input.
  (global $feeds (mut i32) (i32.const 1))

  ;; Writes all of some bytes to a descriptor. Waits while the client does not read.
  (func $put (param $to i32) (param $at i32) (param $length i32)
    (loop $more
      (if (i32.eqz (local.get $length)) (then (return)))
      (i32.store (i32.const 0) (local.get $at))
      (i32.store (i32.const 4) (local.get $length))
      (if (call $fd_write (local.get $to) (i32.const 0) (i32.const 1) (i32.const 8)) (then (return)))
      (local.set $at (i32.add (local.get $at) (i32.load (i32.const 8))))
      (local.set $length (i32.sub (local.get $length) (i32.load (i32.const 8))))
      (br $more)))

  ;; Writes the host's text about a failure to stderr.
  (func $complain
    (local $length i32)
    (local.set $length (call $error (i32.const 65536) (i32.const 65535)))
    (if (i32.eqz (local.get $length)) (then (return)))
    (if (i32.gt_u (local.get $length) (i32.const 65535)) (then (local.set $length (i32.const 65535))))
    (i32.store8 (i32.add (i32.const 65536) (local.get $length)) (i32.const 10))
    (call $put (i32.const 2) (i32.const 65536) (i32.add (local.get $length) (i32.const 1))))

  ;; Returns the address after the text at this address.
  (func $after (param $at i32) (result i32)
    (loop $more
      (if (i32.load8_u (local.get $at))
        (then (local.set $at (i32.add (local.get $at) (i32.const 1))) (br $more))))
    (i32.add (local.get $at) (i32.const 1)))

  ;; Starts the command that the arguments name.
  (func $begin
    (local $texts i32) (local $end i32) (local $name i32) (local $params i32) (local $failed i32)
    (drop (call $args_sizes (i32.const 16) (i32.const 20)))
    (local.set $texts (i32.add (i32.const 196608) (i32.shl (i32.load (i32.const 16)) (i32.const 2))))
    (local.set $end (i32.add (local.get $texts) (i32.load (i32.const 20))))
    (drop (memory.grow (i32.shr_u (i32.sub (i32.add (local.get $end) (i32.const 65535)) (i32.const 196608)) (i32.const 16))))
    (drop (call $args (i32.const 196608) (local.get $texts)))
    (local.set $name (call $after (local.get $texts)))
    (local.set $params (call $after (local.get $name)))
    (local.set $failed (call $start
      (local.get $name) (i32.sub (i32.sub (local.get $params) (local.get $name)) (i32.const 1))
      (local.get $params) (i32.sub (local.get $end) (local.get $params))
      (i32.const 12)))
    (if (local.get $failed) (then (call $complain) (call $exit (i32.const 1))))
    (global.set $command (i32.load (i32.const 12))))

  ;; Copies output of the command, 1 or 2. Returns whether there can be more.
  (func $copy (param $output i32) (result i32)
    (local $count i32)
    (local.set $count (call $read (global.get $command) (local.get $output) (i32.const 65536) (i32.const 65536)))
    (if (i32.lt_s (local.get $count) (i32.const 0)) (then (return (i32.const 0))))
    (call $put (local.get $output) (i32.const 65536) (local.get $count))
    (i32.const 1))

  (func $end_input
    (call $close (global.get $command))
    (global.set $left (i32.const 0))
    (global.set $feeds (i32.const 0)))

  ;; Reads input that is there, or its end.
  (func $take_input
    (i32.store (i32.const 0) (i32.const 131072))
    (i32.store (i32.const 4) (i32.const 16384))
    (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then (call $end_input) (return)))
    (global.set $from (i32.const 131072))
    (global.set $left (i32.load (i32.const 8)))
    (if (i32.eqz (global.get $left)) (then (call $end_input))))

  ;; Gives the command as much input as it takes.
  (func $give_input
    (local $count i32)
    (local.set $count (call $write (global.get $command) (global.get $from) (global.get $left)))
    (if (i32.lt_s (local.get $count) (i32.const 0)) (then (call $end_input) (return)))
    (global.set $from (i32.add (global.get $from) (local.get $count)))
    (global.set $left (i32.sub (global.get $left) (local.get $count))))

  (func (export "_start")
    (local $open i32) (local $wanted i32) (local $ready i32) (local $status i32)
    (call $begin)
    ;; The outputs that can still have something, as bits of `command_poll`: 2 for stdout, 4 for stderr.
    (local.set $open (i32.const 6))
    (loop $more
      (local.set $wanted (select (local.get $open) (i32.const 8) (local.get $open)))
      (if (global.get $feeds)
        (then (local.set $wanted
          (i32.or (local.get $wanted) (select (i32.const 1) (i32.const 16) (global.get $left))))))
      (local.set $ready (call $poll (global.get $command) (local.get $wanted) (i32.const -1)))
      (if (i32.and (local.get $ready) (i32.const 2))
        (then (if (i32.eqz (call $copy (i32.const 1)))
          (then (local.set $open (i32.and (local.get $open) (i32.const 4)))))))
      (if (i32.and (local.get $ready) (i32.const 4))
        (then (if (i32.eqz (call $copy (i32.const 2)))
          (then (local.set $open (i32.and (local.get $open) (i32.const 2)))))))
      (if (i32.and (local.get $ready) (i32.const 1)) (then (call $give_input)))
      (if (i32.and (local.get $ready) (i32.const 16)) (then (call $take_input)))
      (br_if $more (i32.eqz (i32.and (local.get $ready) (i32.const 8)))))
    (local.set $status (call $status (global.get $command)))
    (call $complain)
    (if (i32.ge_s (local.get $status) (i32.const 256))
      (then (local.set $status (i32.sub (local.get $status) (i32.const 128)))))
    (call $exit (local.get $status))))
