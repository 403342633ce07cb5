;; Never reaches its `run`: the start function of its core module spins.
(component
  (core module $module
    (func $spin (loop $for_ever (br $for_ever)))
    (start $spin)
    (func (export "run") (result i32) (i32.const 0)))
  (core instance $instance (instantiate $module))
  (func $run (result (result)) (canon lift (core func $instance "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))
