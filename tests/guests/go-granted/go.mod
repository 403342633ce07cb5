module distillery/tests/guests/granted

go 1.22
