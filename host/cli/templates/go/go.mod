module call

go 1.24
