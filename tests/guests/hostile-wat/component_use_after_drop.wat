;; Drops its stdout, and then asks when it can write to it.
(component
  (import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type (sub resource)))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (alias outer 1 $pollable (type $pollable))
    (export "output-stream" (type $output (sub resource)))
    (export "[method]output-stream.subscribe" (func (param "self" (borrow $output)) (result (own $pollable))))))
  (alias export $streams "output-stream" (type $output))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $output (type $output))
    (export "get-stdout" (func (result (own $output))))))
  (core func $stdout (canon lower (func $stdout "get-stdout")))
  (core func $subscribe (canon lower (func $streams "[method]output-stream.subscribe")))
  (core func $drop (canon resource.drop $output))
  (core module $module
    (import "host" "stdout" (func $stdout (result i32)))
    (import "host" "subscribe" (func $subscribe (param i32) (result i32)))
    (import "host" "drop" (func $drop (param i32)))
    (func (export "run") (result i32) (local $output i32)
      (local.set $output (call $stdout))
      (call $drop (local.get $output))
      (drop (call $subscribe (local.get $output)))
      (i32.const 0)))
  (core instance $instance (instantiate $module (with "host" (instance
    (export "stdout" (func $stdout))
    (export "subscribe" (func $subscribe))
    (export "drop" (func $drop))))))
  (func $run (result (result)) (canon lift (core func $instance "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))
