package workflow

// AddDecimal adds two decimal numbers written as text, exactly; text that is no number counts as 0.
// Costs are kept and summed this way.
func AddDecimal(a, b string) string {
	if a == "0" && (b == "" || b == "0") {
		return a // most nodes cost nothing
	}
	x, ok := parseDecimal(a)
	if !ok {
		x, _ = parseDecimal("0")
	}
	y, ok := parseDecimal(b)
	if !ok {
		return x.text()
	}
	return x.plus(y).text()
}
