package egress

import "net/netip"

// reserved is a block of addresses that is not the public internet.
type reserved struct {
	prefix netip.Prefix
	reason string
}

// reservedBlocks follows IANA's special-purpose registries. The first match gives the reason, so
// narrow blocks stand before the wide ones around them.
var reservedBlocks = []reserved{
	{netip.MustParsePrefix("169.254.169.254/32"), "it is a cloud metadata address"},
	{netip.MustParsePrefix("169.254.170.2/32"), "it is a cloud metadata address"},
	{netip.MustParsePrefix("169.254.170.23/32"), "it is a cloud metadata address"},
	{netip.MustParsePrefix("100.100.100.200/32"), "it is a cloud metadata address"},
	{netip.MustParsePrefix("168.63.129.16/32"), "it is a cloud metadata address"},
	{netip.MustParsePrefix("192.0.0.192/32"), "it is a cloud metadata address"},
	{netip.MustParsePrefix("fd00:ec2::254/128"), "it is a cloud metadata address"},
	{netip.MustParsePrefix("fd00:ec2::23/128"), "it is a cloud metadata address"},
	{netip.MustParsePrefix("fd20:ce::254/128"), "it is a cloud metadata address"},

	{netip.MustParsePrefix("0.0.0.0/8"), "it is unspecified"},
	{netip.MustParsePrefix("10.0.0.0/8"), "it is private"},
	{netip.MustParsePrefix("100.64.0.0/10"), "it is shared carrier space"},
	{netip.MustParsePrefix("127.0.0.0/8"), "it is loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "it is link-local"},
	{netip.MustParsePrefix("172.16.0.0/12"), "it is private"},
	{netip.MustParsePrefix("192.0.0.0/24"), "it is reserved for protocols"},
	{netip.MustParsePrefix("192.0.2.0/24"), "it is reserved for documentation"},
	{netip.MustParsePrefix("192.88.99.0/24"), "it is a 6to4 relay"},
	{netip.MustParsePrefix("192.168.0.0/16"), "it is private"},
	{netip.MustParsePrefix("198.18.0.0/15"), "it is reserved for benchmarks"},
	{netip.MustParsePrefix("198.51.100.0/24"), "it is reserved for documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "it is reserved for documentation"},
	{netip.MustParsePrefix("224.0.0.0/4"), "it is multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "it is reserved"},

	{netip.MustParsePrefix("::/128"), "it is unspecified"},
	{netip.MustParsePrefix("::1/128"), "it is loopback"},
	{netip.MustParsePrefix("::/96"), "it is an IPv4-compatible form"},
	{netip.MustParsePrefix("::ffff:0:0:0/96"), "it is an IPv4-translated form"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "it is local NAT64"},
	{netip.MustParsePrefix("100::/64"), "it is reserved for discarding"},
	{netip.MustParsePrefix("2001::/23"), "it is reserved for protocols"}, // Teredo, ORCHID, benchmarks
	{netip.MustParsePrefix("2001:db8::/32"), "it is reserved for documentation"},
	{netip.MustParsePrefix("2002::/16"), "it is a 6to4 form"},
	{netip.MustParsePrefix("3fff::/20"), "it is reserved for documentation"},
	{netip.MustParsePrefix("5f00::/16"), "it is reserved for segment routing"},
	{netip.MustParsePrefix("fc00::/7"), "it is private"},
	{netip.MustParsePrefix("fe80::/10"), "it is link-local"},
	{netip.MustParsePrefix("fec0::/10"), "it is site-local"},
	{netip.MustParsePrefix("ff00::/8"), "it is multicast"},
}

const metadataReason = "it is a cloud metadata address"

// nat64 is the well-known prefix by which IPv6-only networks reach IPv4: the address inside decides.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// forbidden says why an address is not the public internet, "" when it is.
func forbidden(addr netip.Addr) string {
	if !addr.IsValid() {
		return "it is not an address"
	}
	if addr.Zone() != "" {
		return "an address with a zone is local"
	}
	addr = addr.Unmap()
	if nat64.Contains(addr) {
		b := addr.As16()
		if reason := forbidden(netip.AddrFrom4([4]byte(b[12:]))); reason != "" {
			return reason
		}
		return ""
	}
	for _, block := range reservedBlocks {
		if block.prefix.Contains(addr) {
			return block.reason
		}
	}
	return ""
}

// isMetadata tells whether the address serves a machine its own credentials.
func isMetadata(addr netip.Addr) bool { return forbidden(addr) == metadataReason }
