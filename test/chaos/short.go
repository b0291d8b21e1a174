//go:build !chaos

package chaos

import "time"

// duration is how long things go wrong.
const duration = 6 * time.Second
