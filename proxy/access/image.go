package access

import (
	"errors"
	"fmt"
	"net/netip"
)

// The image of a Set, by which it travels to workers: a byte of 1 or 0 for others, then
// the prefixes, sorted. Equal Sets have equal images.
//
//	0                 1       2 ...
//	│ admitted, v6    │ bits  │ 4 or 16 bytes of address │
const (
	imageAdmitted = 1 << iota
	imageV6
)

// Image is the Set as bytes.
func (s *Set) Image() []byte {
	image := make([]byte, 1, 1+6*s.Len())
	if s.others {
		image[0] = 1
	}
	for p, admitted := range s.table.AllSorted() {
		flags := byte(0)
		if admitted {
			flags |= imageAdmitted
		}
		if p.Addr().Is6() {
			flags |= imageV6
		}
		image = append(image, flags, byte(p.Bits()))
		image = append(image, p.Addr().AsSlice()...)
	}
	return image
}

var errImage = errors.New("not an access set")

// FromImage is the Set of an image.
func FromImage(image []byte) (*Set, error) {
	if len(image) == 0 || image[0] > 1 {
		return nil, errImage
	}
	s := &Set{others: image[0] == 1}
	for rest := image[1:]; len(rest) > 0; {
		size := 4
		if rest[0]&imageV6 != 0 {
			size = 16
		}
		if len(rest) < 2+size || rest[0] > imageAdmitted|imageV6 {
			return nil, fmt.Errorf("%w: damaged", errImage)
		}
		a, _ := netip.AddrFromSlice(rest[2 : 2+size])
		p, err := a.Prefix(int(rest[1]))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errImage, err)
		}
		s.table.Insert(p, rest[0]&imageAdmitted != 0)
		rest = rest[2+size:]
	}
	return s, nil
}
