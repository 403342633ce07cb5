;; Creates resources of its own forever. Each costs the host an entry in a table, and the guest nothing.
(component
  (type $thing (resource (rep i32)))
  (core func $new (canon resource.new $thing))
  (core module $module
    (import "host" "new" (func $new (param i32) (result i32)))
    (func (export "run") (result i32)
      (loop $more
        (drop (call $new (i32.const 7)))
        (br $more))
      (unreachable)))
  (core instance $instance (instantiate $module (with "host" (instance (export "new" (func $new))))))
  (func $run (result (result)) (canon lift (core func $instance "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))
