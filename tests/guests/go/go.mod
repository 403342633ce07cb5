module distillery/tests/guests/conversation

go 1.22
